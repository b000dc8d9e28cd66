"""Ground truth beside predictions, worst images first, as one page of HTML."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.device import get_device
from mmengine.structures import BaseDataElement
from rich.progress import track
from torch import nn

from mmrev.atomic import write_bytes
from mmrev.browse.detection import DetectionPage
from mmrev.browse.page import render
from mmrev.browse.segmentation import SegmentationPage
from mmrev.checkpoints.runs import use_safe_loading
from mmrev.console import quiet, say
from mmrev.datasets.checked import use_checked_data
from mmrev.errors import UserError
from mmrev.runs.data import build_datasets
from mmrev.runs.model import choose_stitch, load_model, model_config

__all__ = ["browse"]


def browse(args: Namespace) -> Path:
    """Write the page that ``tools/browse.py`` was asked for.

    Args:
        args: ``config``, ``safe_config``; ``checkpoint`` or None for the ground truth
            alone; ``images``, how many, evenly spread; ``split``, 'test' or 'train';
            ``out``, a file or None; ``cfg_options``.

    Returns:
        Where it is.

    Raises:
        UserError: Names the path or key at fault; then nothing is written.
    """
    if args.images < 1:
        raise UserError(f"--images: expected 1 or more, got {args.images}.")
    if args.checkpoint and args.split != "test":
        raise UserError(
            f"--split {args.split} shows the ground truth alone, since the training "
            "pipeline changes images; leave out the checkpoint."
        )
    quiet()
    use_safe_loading()
    use_checked_data()
    cfg = model_config(args.config, args.cfg_options, args.safe_config)
    sets = build_datasets(cfg, args.split)
    places = [(dataset, index) for dataset in sets for index in range(len(dataset))]
    page = _page_of(args, *places[0])
    model = _load_model(cfg, args) if args.checkpoint else None
    count = min(args.images, len(places))
    chosen = np.linspace(0, len(places) - 1, count).astype(int)
    for number in track(chosen, description="images", transient=True):
        dataset, index = places[number]
        page.add(read_image(dataset, index), _predict(model, dataset, index))
    name = Path(args.config).stem
    work_dir = cfg.get("work_dir") or f"work_dirs/{name}"
    out = Path(args.out or Path(work_dir, "browse.html"))
    subtitle = f"{count} of {len(places)} {args.split} images"
    write_bytes(out, render(page.report(), name, args.checkpoint, subtitle).encode())
    say(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return out


def read_image(dataset: BaseDataset, index: int) -> dict[str, Any]:
    """An image and its annotations as loaded, before they are changed in any way.

    Args:
        dataset: with a pipeline that loads both.
        index: of the image.

    Returns:
        What the transforms of the pipeline that load leave: ``img``, (H, W, 3) BGR, and
        ``gt_bboxes``, ``gt_seg_map`` and so on.
    """
    results = dataset.get_data_info(index)
    for step in dataset.pipeline.transforms:
        if isinstance(step, LoadImageFromFile | LoadAnnotations):
            results = step(results)
    return results


def _page_of(
    args: Namespace, dataset: BaseDataset, index: int
) -> DetectionPage | SegmentationPage:
    found = read_image(dataset, index)
    classes = dataset.metainfo.get("classes") or ()
    predicted = args.checkpoint is not None
    if "img" in found and "gt_bboxes" in found:
        return DetectionPage(classes, predicted)
    if "img" in found and "gt_seg_map" in found:
        return SegmentationPage(classes, predicted)
    raise UserError(
        f"config {args.config}: expected data of detection (mmdet) or segmentation "
        f"(mmseg) whose {args.split} pipeline has LoadImageFromFile and "
        f"LoadAnnotations, got {type(dataset).__name__} with "
        f"{', '.join(type(s).__name__ for s in dataset.pipeline.transforms)}."
    )


def _load_model(cfg: Config, args: Namespace) -> nn.Module:
    model, _ = load_model(cfg, args.checkpoint)
    choose_stitch(cfg, model)
    return model.to(get_device()).eval()


@torch.no_grad()
def _predict(
    model: nn.Module | None, dataset: BaseDataset, index: int
) -> BaseDataElement | None:
    if model is None:
        return None
    (sample,) = model.test_step(pseudo_collate([dataset[index]]))
    return sample.cpu()
