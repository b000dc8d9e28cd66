"""Where the weights of a training come from, for whatever starts from them."""

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrev.errors import UserError
from mmrev.leaderboard.lineage import (
    LINEAGE_KEY,
    starting_stages,
    told_training,
    training_of,
)
from mmrev.leaderboard.record import Stage
from mmrev.registry import HOOKS

__all__ = ["LineageHook"]


@HOOKS.register_module()
class LineageHook(Hook):
    """Lets every checkpoint tell its training, and the stages that this started from.

    They are the checkpoints that ``load_from`` and every ``init_cfg`` of the model
    name, each by its SHA-256 and with the stages that it tells itself, so that the last
    one of a chain tells all of it. A run that is resumed goes on with the lineage that
    it began with; one that began without stays without.
    """

    def __init__(self) -> None:
        self._starts: list[Stage] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take over what a resumed run began with."""
        if runner._resume:
            told = told_training(checkpoint.get("meta") or {}, runner._load_from)
            self._starts = told and told.starts

    def before_train(self, runner: Runner) -> None:
        """Look at what was just loaded.

        Raises:
            UserError: It is not there, cannot be hashed, or tells a wrong lineage.
        """
        if runner._resume:
            return
        try:
            self._starts = starting_stages(runner.cfg)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(str(error)) from error

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add it to the meta."""
        if self._starts is None:
            return
        name = Path(runner.cfg.filename or runner.experiment_name).stem
        meta = checkpoint["meta"]
        told = training_of(runner.cfg, name, self._starts, meta)
        meta[LINEAGE_KEY] = told.model_dump(mode="json")
