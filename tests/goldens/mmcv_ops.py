"""Small cases of mmcv's ops, and how ``mmcv_ops.json`` was made of them.

With compiled mmcv 2.3.6 (onedl-mmcv, torch 2.10.0, CPU, float32), from this folder:
``python mmcv_ops.py mmcv_ops.json``. The compiled extension has no CPU form of focal
losses and deformable attention: these are compared with their definitions instead.
"""

import json
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from mmcv import ops
from torch import Tensor

Results = dict[str, Tensor]


def spread(*shape: int, step: int = 607, modulus: int = 1021) -> Tensor:
    """Numbers between -1 and 1 that look random and are the same everywhere.

    None displaces a point to a whole pixel: on the rim of an image such a point has a
    gradient on one side only, which mmcv leaves out and torchvision takes.
    """
    count = torch.Size(shape).numel()
    numbers = (torch.arange(1, count + 1) * step) % modulus + 0.5
    return (2 * numbers / modulus - 1).reshape(shape)


def boxes_with_ties(count: int) -> tuple[Tensor, Tensor]:
    """Boxes on whole pixels, each third one twice; scores of five values."""
    number = torch.arange(count)
    number = torch.where(number % 3 == 2, number - 1, number)
    left, top = (number * 5) % 17, (number * 7) % 13
    width, height = 4 + (number * 3) % 5, 3 + (number * 11) % 7
    boxes = torch.stack([left, top, left + width, top + height], dim=1).float()
    return boxes, (1 + (torch.arange(count) * 3) % 5).float() / 5


def cases() -> Iterator[tuple[str, Callable[[], Results]]]:
    """Name and computation of each case."""
    for count, offset in product((0, 1, 30), (0, 1)):
        yield (
            f"nms, {count} boxes, offset {offset}",
            lambda c=count, o=offset: _nms(c, iou_threshold=0.5, offset=o),
        )
    yield (
        "nms, least score and most boxes",
        lambda: _nms(30, iou_threshold=0.4, score_threshold=0.3, max_num=4),
    )
    for split, agnostic in product((1, 100), (False, True)):
        yield (
            f"batched nms, split_thr {split}, agnostic {agnostic}",
            (lambda s=split, a=agnostic: _batched(30, s, a)),
        )
    for method, offset in product(("naive", "linear", "gaussian"), (0, 1)):
        yield (
            f"soft nms, {method}, offset {offset}",
            lambda m=method, o=offset: _soft(30, method=m, offset=o, min_score=0.15),
        )
    yield "soft nms, 0 boxes", lambda: _soft(0)
    for aligned, ratio, count in product((True, False), (0, 2), (0, 5)):
        yield (
            f"roi align, aligned {aligned}, ratio {ratio}, {count} rois",
            (lambda a=aligned, r=ratio, c=count: _roi_align(a, r, c)),
        )
    for groups, deform_groups, stride, dilation in ((1, 1, 1, 1), (2, 2, 2, 1)):
        shape = groups, deform_groups, stride, dilation
        yield f"deform conv, {shape}", lambda s=shape: _deform_conv(*s)
        for bias in (True, False):
            yield (
                f"modulated deform conv, {shape}, bias {bias}",
                (lambda s=shape, b=bias: _modulated(*s, bias=b)),
            )


def _nms(count: int, **settings: float) -> Results:
    dets, kept = ops.nms(*boxes_with_ties(count), **settings)
    return {"dets": dets, "kept": kept}


def _batched(count: int, split: int, agnostic: bool) -> Results:
    boxes, scores = boxes_with_ties(count)
    settings = dict(type="nms", iou_threshold=0.3, split_thr=split)
    classes = torch.arange(count) % 4
    dets, kept = ops.batched_nms(boxes, scores, classes, settings, agnostic)
    return {"dets": dets, "kept": kept}


def _soft(count: int, **settings: float | str) -> Results:
    dets, kept = ops.soft_nms(*boxes_with_ties(count), **settings)
    return {"dets": dets, "kept": kept}


def _roi_align(aligned: bool, ratio: int, count: int) -> Results:
    image = spread(2, 2, 6, 7).requires_grad_()
    rois = [
        [0, 0, 0, 27, 23],
        [1, 3.5, 2, 3.5, 9],  # no width
        [1, -9, -6, 12, 40],  # beyond the image
        [0, 20, 16, 26, 22],
        [1, 1, 1, 2, 2],
    ]
    rois = torch.tensor(rois).float()[:count].reshape(-1, 5)
    output = ops.roi_align(image, rois, (3, 2), 0.25, ratio, "avg", aligned)
    return _with_gradients(output, image=image)


def _deform_conv(groups: int, deform_groups: int, stride: int, dilation: int):
    image, weight, offset, _ = _conv_inputs(groups, deform_groups, stride)
    output = ops.deform_conv2d(
        image, offset, weight, stride, 1, dilation, groups, deform_groups
    )
    return _with_gradients(output, image=image, weight=weight, offset=offset)


def _modulated(groups: int, deform_groups: int, stride: int, dilation: int, bias: bool):
    image, weight, offset, mask = _conv_inputs(groups, deform_groups, stride)
    inputs = dict(image=image, weight=weight, offset=offset, mask=mask)
    if bias:
        inputs["bias"] = spread(4, step=77).requires_grad_()
    output = ops.modulated_deform_conv2d(
        image,
        offset,
        mask,
        weight,
        inputs.get("bias"),
        stride,
        1,
        dilation,
        groups,
        deform_groups,
    )
    return _with_gradients(output, **inputs)


def _conv_inputs(groups: int, deform_groups: int, stride: int) -> list[Tensor]:
    size = (5 - 1) // stride + 1, (6 - 1) // stride + 1
    inputs = [
        spread(2, 4, 5, 6),
        spread(4, 4 // groups, 3, 3, step=311),
        2 * spread(2, 2 * deform_groups * 9, *size, step=229),
        (spread(2, deform_groups * 9, *size, step=401) + 1) / 2,
    ]
    return [one.requires_grad_() for one in inputs]


def _with_gradients(output: Tensor, **inputs: Tensor) -> Results:
    found = torch.autograd.grad(output, inputs.values(), spread(*output.shape, step=97))
    names = (f"gradient of {name}" for name in inputs)
    return {"output": output.detach(), **dict(zip(names, found, strict=True))}


if __name__ == "__main__":
    made = {
        name: {key: value.tolist() for key, value in compute().items()}
        for name, compute in cases()
    }
    # Nine digits tell any two single-precision numbers apart.
    text = json.dumps(made)
    made = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.9g}"))
    Path(sys.argv[1]).write_text(json.dumps(made, separators=(",", ":")) + "\n")
