"""Hooks around the checkpoints of a run: written whole, compared strictly."""

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner

from mmrev.atomic import write_bytes
from mmrev.checkpoints.runs import load_strictly
from mmrev.registry import HOOKS

__all__ = [
    "AtomicCheckpointHook",
    "StrictCheckpointHook",
]


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook with whole files, and never fewer than it should keep.

    Takes its arguments. Unlike it, the checkpoint and ``last_checkpoint`` go through
    :mod:`mmrev.atomic`, and with ``max_keep_ckpts`` the oldest checkpoint goes
    only after the newest is safe: mmengine deletes first, so that a run killed while
    saving can be left with none.
    """

    def __init__(self, *args: Any, backend_args: dict | None = None, **kwargs: Any):
        backend_args = backend_args or {"backend": "atomic"}
        super().__init__(*args, backend_args=backend_args, **kwargs)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        outdated = []
        if self.max_keep_ckpts > 0:
            kept = [*(i for i in self.keep_ckpt_ids if i != step), step]
            outdated = kept[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept[-self.max_keep_ckpts :])
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        write_bytes(Path(runner.work_dir, "last_checkpoint"), self.last_ckpt.encode())
        for old in outdated:
            path = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(old)
            )
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Refuses a checkpoint of another architecture.

    mmengine loads what fits and warns about the rest: testing then prints numbers of a
    model with random parts. Runs last, so that it sees what an EMA hook made of it.
    """

    priority = "LOWEST"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare before anything is tested or trained.

        Raises:
            UserError: Names the first keys that are missing, unexpected, or of another
                shape, and how many there are.
        """
        model = runner.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        load_strictly(model, checkpoint, runner._load_from, runner.cfg.filename)
