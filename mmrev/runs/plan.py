"""How a config fits its devices: memory mode, batch, precision and sharding.

``tools/plan.py`` prints it; `price` is what a training costs as it is configured.
"""

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmrev.console import quiet, say, show
from mmrev.datasets.scenes import SceneSettings
from mmrev.errors import UserError
from mmrev.models.backbones.base import Backbone
from mmrev.models.stitching import StitchedBackbone
from mmrev.runs.config import load_config
from mmrev.runs.head_memory import head_memory
from mmrev.runs.nodes import components, walk
from mmrev.runs.trial import PRECISIONS, Trial, own_precision
from mmrev.runs.typical import image_size
from mmrev.wrappers import plain_settings

__all__ = ["Option", "Price", "memory_keys", "options", "plan", "price", "recommended"]

USABLE = 0.9
"""Share of a device's memory that is planned for: what torch's allocator does not count
(the context of CUDA, libraries, fragments) has the rest."""
# Images of the training sets whose numbers are public, by annotation file or type.
_IMAGES = {
    "instances_train2017.json": 118_287,
    "ADE20KDataset": 20_210,
    "ImageNet": 1_281_167,
}


@dataclass(frozen=True)
class Option:
    """A way to train a config.

    Attributes:
        memory: mode of the backbone, or of each of its stages.
        precision: of `PRECISIONS`.
        sharding: of `StepCosts.peak`.
        batch: images on a device.
        peak: bytes on a device.
        flops: multiply-adds of a step on a device.
        seconds: of a step.
        head_memory: mode of the head.
    """

    memory: str | list[str]
    precision: str
    sharding: str
    batch: int
    peak: float
    flops: float
    seconds: float
    head_memory: str = "store"


@dataclass(frozen=True)
class Price:
    """What a training costs as it is configured.

    Attributes:
        flops: multiply-adds of a step on a device.
        peak: bytes on a device.
        seconds: of a step.
        hours: of the schedule, without validation; None if the number of images is
            known only to the data set.
    """

    flops: float
    peak: float
    seconds: float
    hours: float | None


def price(
    cfg: Config,
    gpus: int = 1,
    size: tuple[int, int] | None = None,
    tflops: float | None = None,
) -> Price:
    """Price a config by a few steps on small images of noise, on the CPU.

    It takes from some seconds to a few minutes, and neither data nor weights.

    Args:
        cfg: of `load_config`.
        gpus: devices, each with the config's batch; more than one share gradients.
        size: height and width of the images, pixels; None for the config's largest.
        tflops: what a device does, in 1e12 operations a second, two of which are a
            multiply-add; None tells the time of this machine's CPU.

    Raises:
        UserError: the config has a mistake, no backbone of mmrev, or no size of images.
    """
    init_default_scope(cfg.default_scope)
    trial, size = Trial(cfg), size or image_size(cfg)
    batch = cfg.train_dataloader.batch_size
    costs = trial.step_costs(None, own_precision(cfg), size)
    flops = trial.flops(None, batch, size)
    if tflops is None:
        seconds = trial.seconds(None, own_precision(cfg), batch, size)
    else:
        seconds = 2 * flops / (tflops * 1e12)
    steps = _iterations(cfg, gpus * batch)
    return Price(
        flops=flops,
        peak=costs.peak(batch, size, "ddp" if gpus > 1 else "none", gpus),
        seconds=seconds,
        hours=steps and steps * seconds / 3600,
    )


def _iterations(cfg: Config, batch: int) -> int | None:
    """Of a config's schedule, with so many images in a step."""
    loop = cfg.train_cfg
    if "max_iters" in loop:
        return loop.max_iters
    images = _images(cfg)
    return images and loop.max_epochs * ceil(images / batch)


def _images(cfg: Config) -> int | None:
    """Of an epoch; None if only the data set knows."""
    whole, count = cfg.train_dataloader.dataset, 0
    if any(
        {"times", "oversample_thr"} & set(node.where.split(".")) for node in walk(whole)
    ):
        return None  # of wrappers that repeat
    for _, dataset in plain_settings(whole, ""):
        name = str(dataset.get("type")).rpartition(".")[2]
        if name.startswith("Scenes"):
            found = SceneSettings(**(dataset.get("scenes") or {})).num_training
        else:
            found = _IMAGES.get(Path(str(dataset.get("ann_file"))).name)
            found = found or _IMAGES.get(name)
        if found is None:
            return None
        count += found
    return count


def options(
    trial: Trial,
    size: tuple[int, int],
    batches: Sequence[int],
    gpus: int = 1,
    memory: Sequence[str | list[str]] | None = None,
    precisions: Sequence[str] = PRECISIONS,
    tflops: float | None = None,
) -> Iterator[Option]:
    """Price ways to train a config.

    Args:
        trial: of the config, with the head in its mode.
        size: height and width of the images, pixels.
        batches: images on a device.
        gpus: devices.
        memory: modes of the backbone, or of its stages; None for every mode it has.
        precisions: some of `PRECISIONS`.
        tflops: of `price`.
    """
    for mode in memory or trial.memory:
        for precision in precisions:
            costs = trial.step_costs(mode, precision, size)
            for sharding in ("ddp", "fsdp") if gpus > 1 else ("none",):
                for batch in batches:
                    flops = trial.flops(mode, batch, size)
                    yield Option(
                        memory=mode,
                        precision=precision,
                        sharding=sharding,
                        batch=batch,
                        peak=costs.peak(batch, size, sharding, gpus),
                        flops=flops,
                        seconds=trial.seconds(mode, precision, batch, size)
                        if tflops is None
                        else 2 * flops / (tflops * 1e12),
                        head_memory=trial.head_memory,
                    )


def recommended(
    found: Sequence[Option], budget: float, precision: str
) -> Option | None:
    """The way that changes least of a training, and of those the one of least work.

    The largest batch comes first, then the config's own precision, then whole weights
    on every device, then the fewest operations.

    Args:
        found: ways to train, with no larger batches than the config is meant for.
        budget: bytes on a device.
        precision: the config's own.

    Returns:
        None if none fits.
    """
    return min(
        (one for one in found if one.peak <= budget),
        key=lambda one: (
            -one.batch,
            one.precision != precision,
            one.sharding == "fsdp",
            one.flops,
        ),
        default=None,
    )


def plan(args: Namespace) -> None:
    """Plan as ``tools/plan.py`` was asked to: a table, and the command that trains.

    Args:
        args: ``config``, ``cfg_options``; ``gpus``, and ``memory`` of each, gigabytes;
            ``size`` or None; ``tflops`` or None; ``device``, which measures; ``json``,
            whether to print that instead.

    Raises:
        UserError: the config has a mistake or no backbone of mmrev, a number is out of
            range, or nothing fits.
    """
    _check_numbers(args)
    quiet()
    cfg = load_config(args.config, args.cfg_options, args.safe_config)
    init_default_scope(cfg.default_scope)
    trial = Trial(cfg, args.device)
    size = tuple(args.size or image_size(cfg))
    own, meant = own_precision(cfg), _meant_batch(cfg, args.gpus)
    batches = sorted({2**n for n in range(meant.bit_length())} | {meant})
    # A config in half precision is not offered the other, which no option sets.
    precisions = [one for one in PRECISIONS if own in (one, PRECISIONS[0])]
    budget = USABLE * 1e9 * args.memory

    def priced(modes: str | list[str], precisions: Sequence[str]) -> list[Option]:
        ways = options(
            trial, size, batches, args.gpus, [modes], precisions, args.tflops
        )
        return list(ways)

    console = Console(stderr=True)
    found = []
    ways = [(head, mode) for head in trial.heads for mode in trial.memory]
    for head, mode in track(ways, "measuring", console=console, transient=True):
        if head != trial.head_memory:
            best = recommended(found, budget, own)
            if best and (best.memory, best.batch) == (trial.memory[0], meant):
                break  # all fits with the least work
            trial.set_head_memory(head)
        found += priced(mode, precisions)
    best = recommended(found, budget, own)
    if best is None:
        least = min(found, key=lambda one: one.peak)
        raise UserError(
            f"nothing fits: {_words(least)} takes least, {least.peak / 1e9:.3g} GB, "
            f"with images of {size[0]}x{size[1]}; of {args.memory:g} GB "
            f"{budget / 1e9:g} are planned for. Use smaller images (--size), more "
            "--gpus, or a smaller model."
        )
    trial.set_head_memory(best.head_memory)
    for stages in trial.partly(best.memory):
        between = priced(stages, [best.precision])
        found += between
        if (better := recommended([best, *between], budget, own)) != best:
            best = better
            break
    if args.json:
        content = {"size": size, "options": found, "recommended": best}
        print(json.dumps(content, default=asdict, indent=1))
        return
    title = f"{cfg.filename}: images of {size[0]}x{size[1]}, {args.gpus} GPUs"
    show(_table(found, batches, title, _notes(args, trial, size)))
    say(
        f"{_words(best)}: {best.peak / 1e9:.3g} of {args.memory:g} GB\n"
        f"{_command(cfg, best, args.gpus)}"
    )


def _check_numbers(args: Namespace) -> None:
    for name in ("gpus", "memory", "tflops"):
        given = getattr(args, name)
        if given is not None and not 0 < given < float("inf"):
            raise UserError(f"--{name}: expected more than 0, got {given:g}.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here; leave the option out.")
    if args.size and min(args.size) < 32:
        raise UserError(
            f"--size: expected height and width of at least 32 pixels, the stride of "
            f"the last level, got {args.size[0]} and {args.size[1]}."
        )


def _meant_batch(cfg: Config, gpus: int) -> int:
    """Images on a device, for the batch in all that the learning rate is meant for."""
    own = cfg.train_dataloader.batch_size
    base = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    return max(1, base // gpus) if base else own


def _notes(args: Namespace, trial: Trial, size: tuple[int, int]) -> str:
    """How the figures came about."""
    measured = " and ".join(f"{h}x{w}" for h, w in trial.sizes(size))
    timed = (
        f"at {args.tflops:g} TFLOPS" if args.tflops else f"measured on {args.device}"
    )
    shared = "; of ddp and fsdp computed" if args.gpus > 1 else ""
    return (
        f"Peaks: all that torch allocates, from steps on {args.device} with images of "
        f"{measured}{shared}. Times: forward and backward pass, {timed}. Of the memory "
        f"{USABLE:.0%} are planned for."
    )


def _words(option: Option) -> str:
    sharing = "" if option.sharding == "none" else f", {option.sharding}"
    modes = f"memory={option.memory}"
    if option.head_memory != "store":
        modes += f", head_memory={option.head_memory}"
    return f"{modes}, batch {option.batch}, {option.precision}{sharing}"


def _table(
    found: Sequence[Option], batches: Sequence[int], title: str, notes: str
) -> Table:
    table = Table("memory, finest level first", "precision", "sharding", title=title)
    for batch in batches:
        table.add_column(f"GB, batch {batch}", justify="right")
    table.add_column("GMACs an image", justify="right")
    table.add_column("s an image", justify="right")
    rows: dict[tuple, list[Option]] = {}
    for one in found:
        mode = one.memory if isinstance(one.memory, str) else " ".join(one.memory)
        mode += "" if one.head_memory == "store" else ", head too"
        rows.setdefault((mode, one.precision, one.sharding), []).append(one)
    for name, ways in rows.items():
        last = ways[-1]
        costs = last.flops / 1e9 / last.batch, last.seconds / last.batch
        table.add_row(
            *name,
            *(f"{one.peak / 1e9:.3g}" for one in ways),
            f"{costs[0]:.3g}",
            f"{costs[1]:.3g}",
        )
    table.caption = notes
    return table


def _command(cfg: Config, best: Option, gpus: int) -> str:
    """What trains the recommended way."""
    settings = [f"track={cfg.track}"] if "track" in cfg else []
    settings.append(f"train_dataloader.batch_size={best.batch}")
    modes = best.memory if isinstance(best.memory, str) else f'"{best.memory}"'
    for place in memory_keys(cfg):
        settings.append(f"{place}={modes}")
    if best.head_memory != head_memory(cfg):
        settings.append(f"head_memory={best.head_memory}")
    words = ["python"] if gpus == 1 else ["torchrun", f"--nproc-per-node={gpus}"]
    words += ["tools/train.py", cfg.filename, "--cfg-options", *settings]
    if gpus > 1:
        words += ["--launcher", "pytorch"]
    if best.sharding == "fsdp":
        words += ["--shard"]
    if best.precision != own_precision(cfg):
        words += ["--amp"]
    base = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
    if base and base != gpus * best.batch:
        words += ["--auto-scale-lr"]
    return " ".join(words)


def memory_keys(cfg: Config) -> list[str]:
    """The keys that set the memory modes of a config's backbones."""
    own = list(components(cfg.model, Backbone))
    for stitched in components(cfg.model, StitchedBackbone):
        if any(not any(one is anchor for one in own) for anchor in stitched.anchors):
            own.append(stitched)  # it has the modes of other toolboxes' anchors
    return [
        f"{node.where}.memory"
        for node in walk(cfg.model, "model")
        if any(node.value is one for one in own)
    ]
