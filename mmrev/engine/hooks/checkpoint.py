"""Hooks around the checkpoints of a run: written whole, compared strictly."""

from collections.abc import Iterator
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

from mmrev.atomic import write_bytes
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
    :mod:`mmrev.atomic`, and with ``max_keep_ckpts`` the oldest checkpoint goes
    only after the newest is safe: mmengine deletes first, so that a run killed while
    saving can be left with none. A checkpoint in the middle of an accumulated batch
    keeps the gradients so far, which mmengine loses; of several processes, their mean.
    """

    def __init__(self, *args: Any, backend_args: dict | None = None, **kwargs: Any):
        backend_args = backend_args or {"backend": "atomic"}
        super().__init__(*args, backend_args=backend_args, **kwargs)
        self._gradients: dict[str, Tensor] = {}

    def before_train(self, runner: Runner) -> None:
        """Go on with the gradients of a resumed run."""
        super().before_train(runner)
        for name, parameter in unwrapped(runner.model).named_parameters():
            if name in self._gradients:
                parameter.grad = self._gradients[name].to(parameter)
        self._gradients = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the gradients until training starts."""
        if runner._resume:
            self._gradients = checkpoint.get("gradients", {})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the gradients, where there are any."""
        if self._gradients:
            checkpoint["gradients"] = self._gradients

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
        self._gradients = accumulated(runner)
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
        self._gradients = {}
        if not is_main_process():
            return
        write_bytes(Path(runner.work_dir, "last_checkpoint"), self.last_ckpt.encode())
        for old in outdated:
            path = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(old)
            )
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model that a checkpoint holds, without wrappers of processes or of tests."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def accumulated(runner: Runner) -> dict[str, Tensor]:
    """Gradients that wait for the rest of their batch, by name, on the CPU."""
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
        if somewhere:
            gradient = parameter.grad
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
