"""Hooks around the checkpoints of a run: written whole, compared strictly."""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mmrev.atomic import remove_unfinished, write_bytes
from mmrev.checkpoints.checksums import verify_checksum
from mmrev.checkpoints.runs import load_strictly
from mmrev.errors import UserError
from mmrev.registry import HOOKS

__all__ = [
    "AtomicCheckpointHook",
    "StrictCheckpointHook",
]


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook with whole files, and never fewer than it should keep.

    Takes its arguments. Unlike it, the checkpoint and ``last_checkpoint`` go through
    :mod:`mmrev.atomic`, each checkpoint with its checksum. mmengine deletes what is
    outdated first, so that a run killed while saving, or a full disk, can leave it with
    none; here the oldest checkpoint of ``max_keep_ckpts``, and the best one of before,
    go only after the newest was read back as it was written. A checkpoint in the middle
    of an accumulated batch keeps the gradients so far, which mmengine loses; of several
    processes, their mean.

    A run that has to end between two checkpoints leaves ``interrupted.pth``, which goes
    when the next one is safe.

    The checkpoints of a sharded run are folders, each with its checksums in it.
    """

    def __init__(self, *args: Any, backend_args: dict | None = None, **kwargs: Any):
        backend_args = backend_args or {"backend": "checksummed"}
        super().__init__(*args, backend_args=backend_args, **kwargs)
        self._gradients: dict[str, Tensor] = {}
        self._place: dict[str, int] = {}
        self._validated = False

    @property
    def interrupted(self) -> str:
        """The name of a checkpoint between two others."""
        return f"interrupted{Path(self.filename_tmpl).suffix}"

    def before_train(self, runner: Runner) -> None:
        """Go on with the gradients of a resumed run, and without half files of it."""
        super().before_train(runner)
        if self.max_keep_ckpts > 0:
            # mmengine's drops the oldest by itself.
            self.keep_ckpt_ids = deque(self.keep_ckpt_ids)
        if is_main_process():
            for name in (self.filename_tmpl.format("*"), "best_*", self.interrupted):
                remove_unfinished(self.out_dir, name)
            remove_unfinished(runner.work_dir, "last_checkpoint")
        for name, parameter in unwrapped(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the gradients until training starts."""
        if runner._resume:
            self._gradients = checkpoint.get("gradients", {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the gradients, if there are any, and whether its validation is over.

        Methods of schedules stay out, which are code and not read again: OneCycleLR's
        state has one, and by it the optimizer.
        """
        schedules = checkpoint.get("param_schedulers", [])
        if isinstance(schedules, dict):  # of several optimizers
            schedules = chain.from_iterable(schedules.values())
        for state in schedules:
            for key in [key for key, value in state.items() if callable(value)]:
                del state[key]
        if self._gradients:
            checkpoint["gradients"] = self._gradients
        if self._validated:
            checkpoint["meta"]["validated"] = True

    def save_interrupted(self, runner: Runner, epoch: int, iteration: int) -> str:
        """Save a run that has to end, unless it was saved at this place.

        Args:
            runner: Of this process; all processes of a run call this.
            epoch: Epochs that are over.
            iteration: Iterations that are.

        Returns:
            The file to resume from.
        """
        place = {"epoch": epoch, "iter": iteration}
        if not self.save_optimizer or self._place != place:
            self._save(runner, self.interrupted, place, save_optimizer=True)
        return self.last_ckpt

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        kept = []
        if self.max_keep_ckpts > 0:
            kept = [*(i for i in self.keep_ckpt_ids if i != step), step]
            # With those that are outdated: killed before they are removed, the run
            # removes them when it is resumed.
            runner.message_hub.update_info("keep_ckpt_ids", kept)
        name = self.filename_tmpl.format(step)
        self._save(runner, name, meta, self.save_optimizer)
        names = [self.interrupted]
        names += map(self.filename_tmpl.format, kept[: -self.max_keep_ckpts])
        paths = [self.file_backend.join_path(self.out_dir, name) for name in names]
        if self._remove(runner, paths, [self.last_ckpt]) and kept:
            self.keep_ckpt_ids = deque(kept[-self.max_keep_ckpts :])
            runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        # mmengine's method removes the best one so far, saves the new one, and then the
        # last one again, which knows of it.
        outdated: list[str] = []
        self.file_backend.remove = outdated.append
        self._validated = True
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self._validated = False
            del self.file_backend.remove
        if outdated:
            info = runner.message_hub.runtime_info
            best = [path for key, path in info.items() if key.startswith("best_ckpt")]
            self._remove(runner, outdated, best)

    def _remove(self, runner: Runner, paths: list[str], newer: list[str]) -> bool:
        """Remove outdated checkpoints, if those that take their place are whole.

        Returns:
            Whether they are gone, or none of this process's business.
        """
        paths = {path for path in paths if self.file_backend.isfile(path)} - {*newer}
        if not is_main_process() or not paths:
            return True
        try:
            for path in newer:
                verify_checksum(path)
        except ValueError as error:
            names = ", ".join(sorted(Path(path).name for path in paths))
            runner.logger.warning(f"{error} So {names} stays.")
            return False
        for path in paths:
            self.file_backend.remove(path)
        return True

    def _save(
        self, runner: Runner, name: str, meta: dict, save_optimizer: bool
    ) -> None:
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        self._gradients = accumulated(runner)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._gradients = {}
        self._place = {key: meta[key] for key in ("epoch", "iter")}
        if is_main_process():
            last = self.last_ckpt.encode()
            write_bytes(Path(runner.work_dir, "last_checkpoint"), last)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that a checkpoint holds, without wrappers of processes or of tests."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def accumulated(runner: Runner) -> dict[str, Tensor]:
    """Gradients that wait for the rest of their batch, by name.

    Whole ones are on the CPU.
    """
    wrapper = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return {}
    named = unwrapped(runner.model).named_parameters()
    trained = [(name, p) for name, p in named if p.requires_grad]
    # Unlike processes, one without a gradient here may have one there.
    there = torch.tensor([float(p.grad is not None) for _, p in trained])
    all_reduce(there, "max")
    found = {}
    for (name, parameter), somewhere in zip(trained, there.tolist(), strict=True):
        gradient = parameter.grad
        if isinstance(gradient, DTensor):  # of a sharded model, in all processes
            found[name] = gradient.detach()
        elif somewhere:
            total = (
                torch.zeros_like(parameter) if gradient is None else gradient.clone()
            )
            all_reduce(total, "mean")
            found[name] = total.detach().cpu()
    return found


@HOOKS.register_module()
class StrictCheckpointHook(Hook):
    """Refuses a checkpoint of another architecture, or to resume another optimizer.

    mmengine loads what fits and warns about the rest: testing then prints numbers of a
    model with random parts. Runs last, so that it sees what an EMA hook made of it.
    """

    priority = "LOWEST"

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare before anything is tested or trained.

        Raises:
            UserError: Names the first keys that are missing, unexpected, or of another
                shape, and how many there are; or where optimizer and schedules of a
                resumed run are laid out otherwise.
        """
        model = unwrapped(runner.model)
        load_strictly(model, checkpoint, runner._load_from, runner.cfg.filename)
        if runner._resume:
            _compare_optimizers(runner, checkpoint)


def _compare_optimizers(runner: Runner, checkpoint: dict) -> None:
    """Refuse what torch would, or worse, would take for something else."""
    if not isinstance(runner.optim_wrapper, OptimWrapper):
        return
    optimizer = runner.optim_wrapper.optimizer
    then, now = checkpoint["optimizer"]["param_groups"], optimizer.param_groups
    sizes = [[len(group["params"]) for group in groups] for groups in (then, now)]
    # None there: not saved, or none; none here: mmengine says that it leaves them out.
    schedules = checkpoint.get("param_schedulers"), runner.param_schedulers
    schedules = tuple(map(len, schedules)) if all(schedules) else (0, 0)
    differences = [
        f"{what}: {before} there, {here} here"
        for what, (before, here) in {
            "groups of parameters": tuple(map(len, sizes)),
            "parameters": tuple(map(sum, sizes)),
            "schedules": schedules,
        }.items()
        if before != here
    ]
    if not differences and sizes[0] != sizes[1]:
        differences = ["parameters are grouped otherwise"]
    # Another kind of optimizer; a newer torch's may only have more settings.
    if not differences and (lost := set(then[0]) - set(now[0]) - {"initial_lr"}):
        differences = [f"{type(optimizer).__name__} has no {', '.join(sorted(lost))}"]
    if not differences:
        return
    changed = _changed_settings(runner.cfg, checkpoint["meta"].get("cfg"))
    raise UserError(
        f"{runner._load_from} cannot be resumed with this optimizer "
        f"({'; '.join(differences)}){changed}; resume with the settings of then, or "
        f"start anew from its weights, without --resume and with --cfg-options "
        f"load_from={runner._load_from}."
    )


def _changed_settings(cfg: Config, before: str | None) -> str:
    """What of the optimizer and its schedules a config sets otherwise, by key."""
    if before is None:
        return ""
    keys = ("optim_wrapper", "param_scheduler")
    old = Config.fromstring(before, ".py")
    then, now = ({k: c.get(k) for k in keys} for c in (old, cfg))
    found = [f"{key} was {was!r}, is {now_!r}" for key, was, now_ in _unlike(then, now)]
    return f": {', '.join(found)}" if found else ""


def _unlike(then: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in sorted({*then, *now}):
            below = f"{key}.{name}" if key else name
            yield from _unlike(then.get(name), now.get(name), below)
    elif then != now:
        yield key, then, now
