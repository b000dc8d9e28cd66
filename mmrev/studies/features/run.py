"""From a config and a checkpoint to what the features of its backbone are like."""

from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.structures import BaseDataElement
from rich.progress import track
from torch import Tensor, nn
from torch.utils.data import ConcatDataset, DataLoader

from mmrev.atomic import write_bytes
from mmrev.checkpoints.runs import use_safe_loading
from mmrev.console import quiet, say, show
from mmrev.datasets.batches import seeded
from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError
from mmrev.hashes import file_sha256
from mmrev.leaderboard.environment import hardware, software
from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.leaderboard.record import CheckpointInfo
from mmrev.measure.similarity import FEWEST
from mmrev.models.supervision.targets import class_labels, class_presence
from mmrev.runs.config import load_config
from mmrev.runs.data import build_datasets
from mmrev.runs.folders import require_writable
from mmrev.runs.model import as_used, choose_stitch, load_model, unlogged
from mmrev.runs.refusals import named_refusals
from mmrev.runs.steps import require_file
from mmrev.runs.typical import num_classes
from mmrev.studies.devices import require_device
from mmrev.studies.features.collect import Features
from mmrev.studies.features.plot import FORMATS, draw
from mmrev.studies.features.report import Report, Source

__all__ = ["analyse_features"]


def analyse_features(args: Namespace) -> Report:
    """Analyse as ``tools/analysis/features.py`` was asked to; write and print it.

    Args:
        args: ``config``, ``safe_config``, ``cfg_options``; ``checkpoint`` or None for
            initial weights; ``split``, 'train', 'val' or 'test'; ``images``, how many,
            ``batch_size`` of them, ``field_images``, of receptive fields; ``size``,
            height and width, or None for that of the data; ``levels`` or None for all;
            ``seed``; ``device`` or None; ``out`` and ``plot``, files or None.

    Returns:
        What was found.

    Raises:
        UserError: Names the path or key at fault; then nothing is written.
    """
    _check(args)
    quiet()
    use_safe_loading()
    use_checked_data()
    if args.checkpoint:
        require_file(args.checkpoint)
    cfg = load_config(args.config, args.cfg_options, args.safe_config)
    sha256 = config_sha256(cfg.to_dict())
    out, plot = _files(cfg, args)
    cfg = as_used(cfg)
    data = ConcatDataset(build_datasets(cfg, args.split))
    batches = _batches(data, args)
    model = _model(cfg, args)
    features = Features(model.backbone, args.levels, args.seed)
    workers = cfg[f"{args.split}_dataloader"].get("num_workers", 0)
    loader = DataLoader(
        data, batch_sampler=batches, num_workers=workers, collate_fn=list
    )
    names = data.datasets[0].metainfo.get("classes")
    classes = len(names) if names else num_classes(cfg)
    with seeded(args.seed):
        shape, label = _stream(features, loader, model, classes, args)
    count = sum(map(len, batches))
    result = Report(
        date=datetime.now(timezone.utc),
        config=Source(name=Path(args.config).stem, sha256=sha256),
        checkpoint=_checkpoint(args),
        backbone=type(model.backbone).__name__,
        stitch=getattr(model.backbone, "stitch", None),
        split=args.split,
        label=label,
        images=count,
        batch_size=len(batches[0]),
        field_images=min(args.field_images, count),
        input_shape=shape,
        seed=args.seed,
        device=args.device or get_device(),
        software=software(),
        hardware=hardware(),
        states=features.states(),
        blocks=features.blocks(),
    )
    write_bytes(out, result.model_dump_json().encode())
    write_bytes(plot, draw(result, plot.suffix))
    show(result.table())
    say(f"report: {out}, figure: {plot}")
    return result


def _stream(
    features: Features,
    loader: DataLoader,
    model: nn.Module,
    classes: int,
    args: Namespace,
) -> tuple[tuple[int, int], str | None]:
    """Add all images.

    Returns:
        Height and width at which they entered, and what their labels are, if any.
    """
    sizes, label, left = set(), None, args.field_images
    for samples in track(loader, "images", transient=True):
        images = _images(samples, sizes, model, args)
        found = _labels(samples, classes)
        label = label or (found and found[1])
        try:
            features.add(images, found and found[0])
        except ValueError as error:
            raise UserError(f"config {args.config}: {error}") from error
        for image in images[:left]:
            features.add_field(image[None])
        left = max(left - len(images), 0)
    if label is None:
        say(
            f"no labels in the {args.split} data, so that there is no CKA with them; "
            "its pipeline has to load and pack annotations."
        )
    return tuple(images.shape[-2:]), label


def _check(args: Namespace) -> None:
    if args.batch_size < FEWEST or args.images < FEWEST:
        raise UserError(
            f"expected --images and --batch-size of {FEWEST} or more, below which the "
            "unbiased CKA is not defined, got "
            f"{args.images} and {args.batch_size}."
        )
    if args.field_images < 0:
        raise UserError(f"--field-images: expected 0 or more, got {args.field_images}.")
    if args.size and min(args.size) < 1:
        height, width = args.size
        raise UserError(f"--size: expected H and W of 1 or more, got {height} {width}.")
    for name, suffixes in (("out", (".json",)), ("plot", FORMATS)):
        given = getattr(args, name)
        if given and Path(given).suffix not in suffixes:
            raise UserError(f"--{name} must end in {', '.join(suffixes)}, got {given}.")
    require_device(args.device or get_device())


def _files(cfg: Config, args: Namespace) -> tuple[Path, Path]:
    """Where report and figure go."""
    work_dir = cfg.get("work_dir") or f"work_dirs/{Path(args.config).stem}"
    out = Path(args.out or Path(work_dir, "features.json"))
    plot = Path(args.plot or out.with_suffix(".png"))
    for path, name in ((out, "--out"), (plot, "--plot")):
        require_writable(path.parent, name)
    return out, plot


def _batches(data: ConcatDataset, args: Namespace) -> list[list[int]]:
    """Images at random, since those of a class often follow each other in a file."""
    count = min(args.images, len(data))
    size = min(args.batch_size, count)
    if size < FEWEST:
        raise UserError(
            f"config {args.config}: expected {FEWEST} images or more, below which the "
            f"unbiased CKA is not defined, got {len(data)} of --split {args.split}."
        )
    generator = torch.Generator().manual_seed(args.seed)
    chosen = torch.randperm(len(data), generator=generator)[: count // size * size]
    return chosen.view(-1, size).tolist()


def _model(cfg: Config, args: Namespace) -> nn.Module:
    with seeded(args.seed):
        model, _ = load_model(cfg, args.checkpoint)
        if not args.checkpoint:
            say("no checkpoint: the weights are those that a training starts from")
            with named_refusals(cfg), unlogged():
                model.init_weights()
    choose_stitch(cfg, model)
    if not isinstance(getattr(model, "backbone", None), nn.Module):
        raise UserError(
            f"config {args.config}: expected a model with a backbone, got "
            f"{type(model).__name__} without."
        )
    return model.to(args.device or get_device())


def _images(
    samples: Sequence[dict], sizes: set, model: nn.Module, args: Namespace
) -> Tensor:
    """What enters the backbone, (N, 3, H, W); `sizes` are those of images so far."""
    images = [sample["inputs"] for sample in samples]
    if args.size:
        images = [_resized(image, args.size) for image in images]
    sizes.update(tuple(image.shape[-2:]) for image in images)
    if len(sizes) > 1:
        one, *_, other = (f"{height}x{width}" for height, width in sorted(sizes))
        raise UserError(
            f"images have unlike sizes, as {one} and {other}, and what is padded would "
            "count as image. Bring all to one by --size H W."
        )
    elements = [sample["data_samples"] for sample in samples]
    # One tensor, since SelfSupDataPreprocessor takes a list for views of one image.
    data = {"inputs": torch.stack(images), "data_samples": elements}
    return model.data_preprocessor(data, False)["inputs"]


def _resized(image: Tensor, size: Sequence[int]) -> Tensor:
    """(3, H, W) of uint8 to another height and width."""
    small = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)
    return small[0].round().to(image.dtype)


def _labels(samples: Sequence[dict], classes: int) -> tuple[Tensor, str] | None:
    """Labels, (N, K), and what they are; None if there are none."""
    elements: list[BaseDataElement] = [sample["data_samples"] for sample in samples]
    if any(class_labels(element) is None for element in elements):
        return None
    if "gt_label" in elements[0]:
        what = f"class of the image, one of {classes}"
    else:
        what = f"which of {classes} classes are in the image"
    return class_presence(elements, classes), what


def _checkpoint(args: Namespace) -> CheckpointInfo | None:
    if not args.checkpoint:
        return None
    name = Path(args.checkpoint).name
    return CheckpointInfo(name=name, sha256=file_sha256(args.checkpoint))
