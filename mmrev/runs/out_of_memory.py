"""What a training says that ran out of memory: where, with what, and what would fit."""

import gc
import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.tensor import DTensor

from mmrev.console import quiet
from mmrev.errors import UserError
from mmrev.runs.config import load_config
from mmrev.runs.head_memory import head_memory
from mmrev.runs.plan import USABLE, memory_keys
from mmrev.runs.trial import Trial, memory_of, own_precision

__all__ = ["is_out_of_memory", "out_of_memory"]

_SECONDS = 90.0
"""For the planner: others of a distributed training wait meanwhile."""
_OF_CPU = "DefaultCPUAllocator: can't allocate memory"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate, on a GPU or the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or _OF_CPU in str(error)


def out_of_memory(runner: Runner, error: BaseException) -> UserError:
    """The error of a training that ran out of memory.

    What the failed step holds is freed. The planner then works in a process of its own,
    on the CPU and for a minute and a half at most.

    Args:
        runner: in the iteration at fault.
        error: of `is_out_of_memory`.
    """
    images, device = _images(error, runner), next(runner.model.parameters()).device
    peak = (
        torch.cuda.max_memory_allocated(device)
        if device.type == "cuda"
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    # Frames and cycles hold what the step had computed.
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    runner.optim_wrapper.zero_grad()
    budget = _free(device) + _held(runner)
    message = (
        f"iteration {runner.iter + 1}: out of memory on {device}, after "
        f"{peak / 1e9:.3g} GB; there are {budget / 1e9:.3g} GB for a training."
    )
    if images is None:
        return UserError(
            f"{message} It was no training step: lower batch_size of the loader that "
            "was at work, and go on with --resume."
        )
    count, size = images
    config = Path(runner.work_dir, Path(runner.cfg.filename).name)
    message += f" The step had {count} images of {size[0]}x{size[1]}"
    modes = ", ".join(sorted(set(memory_of(runner.model))))
    if not modes:
        return UserError(f"{message}. Lower train_dataloader.batch_size.")
    message += f" in memory={modes}."
    shared = _sharding(runner), get_world_size()
    fitting = _fitting_in_time(str(config), size, count, USABLE * budget, *shared)
    ways = "; ".join(reversed(fitting)) or (
        f"python tools/plan.py {runner.cfg.filename} --gpus {shared[1]} --memory "
        f"{budget / 1e9:.3g} says what does"
    )
    return UserError(f"{message} What fits: {ways}. Go on with --resume.")


def _images(error: BaseException, runner: Runner) -> tuple[int, tuple[int, int]] | None:
    """How many images a training step had, and the height and width of the batch.

    None if it was in no training step.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        batch = frame.f_locals.get("data_batch")
        if frame.f_locals.get("self") is runner.train_loop and batch is not None:
            sides = [image.shape[-2:] for image in batch["inputs"]]
            height, width = (max(side) for side in zip(*sides, strict=True))
            return len(sides), (height, width)
    return None


def _free(device: torch.device) -> int:
    """Bytes that torch could allocate now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info(device)[0]
    page = os.sysconf("SC_PAGE_SIZE")
    statm = Path("/proc/self/statm").read_text().split()
    mapped, resident = (page * int(pages) for pages in statm[:2])
    physical = page * os.sysconf("SC_PHYS_PAGES") - resident
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return physical
    return min(physical, limit - mapped)


def _held(runner: Runner) -> int:
    """Bytes of weights and of the optimizer, which a training has in any case."""
    tensors = [*runner.model.parameters(), *runner.model.buffers()]
    for state in runner.optim_wrapper.optimizer.state.values():
        tensors += [value for value in state.values() if isinstance(value, Tensor)]
    return sum(
        (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes
        for tensor in tensors
    )


def _sharding(runner: Runner) -> str:
    """How the processes of a run share its weights, as of `StepCosts.peak`."""
    if get_world_size() == 1:
        return "none"
    parameter = next(runner.model.parameters())
    return "fsdp" if isinstance(parameter, DTensor) else "ddp"


def _fitting_in_time(*args: Any) -> list[str]:
    """What `_fitting` finds in the time that it has, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_fitting, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    found, end = [], time.monotonic() + _SECONDS
    try:
        while ours.poll(max(0.0, end - time.monotonic())):
            found.append(ours.recv())
    except EOFError:
        pass
    finally:
        process.kill()
        process.join()
    return found


def _send_fitting(pipe: Connection, *args: Any) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    quiet()
    # A planner that fails, as it may for want of memory, has no advice.
    with suppress(Exception):
        for way in _fitting(*args):
            pipe.send(way)


def _fitting(
    config: str,
    size: tuple[int, int],
    batch: int,
    budget: float,
    sharding: str,
    gpus: int,
) -> Iterator[str]:
    """For each memory mode the largest batch that fits, up to the one that did not.

    The head's mode is another where no batch of that size fits in the config's.

    Args:
        config: file of a resolved config.
        size: height and width of the images, pixels.
        batch: images that were too many.
        budget: bytes.
        sharding: of `StepCosts.peak`.
        gpus: of `StepCosts.peak`.
    """
    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    trial, precision = Trial(cfg), own_precision(cfg)
    own = trial.step_costs(None, precision, size)
    # Whatever the budget, that was too much.
    budget = min(budget, own.peak(batch, size, sharding, gpus) - 1)
    modes, fitting = set(memory_of(trial.model)), 0
    for head, mode in product(trial.heads, reversed(trial.memory)):
        known = modes == {mode} and head == trial.heads[0]
        if head != trial.head_memory:
            if fitting == batch:
                return
            trial.set_head_memory(head)
        costs = own if known else trial.step_costs(mode, precision, size)
        peaks = {
            count: costs.peak(count, size, sharding, gpus)
            for count in range(1, batch + 1)
        }
        most = max((n for n, peak in peaks.items() if peak <= budget), default=0)
        fitting = max(fitting, most)
        if most:
            settings = [f"{key}={mode}" for key in memory_keys(cfg)]
            if head != head_memory(cfg):
                settings.append(f"head_memory={head}")
            if most < batch:
                settings.append(f"train_dataloader.batch_size={most}")
            yield f"{peaks[most] / 1e9:.3g} GB with {' '.join(settings)}"
