"""What intermediate supervision asks of a column, read from OpenMMLab's samples."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.structures import BaseDataElement
from torch import Tensor, nn


def class_presence(samples: Sequence[BaseDataElement], num_classes: int) -> Tensor:
    """Which classes an image shows.

    Args:
        samples: with `class_labels`.
        num_classes: K. Labels outside 0 .. K - 1 are ignored, as what a segmentation
            leaves open.

    Returns:
        (N, K), 1 where present, 0 elsewhere.

    Raises:
        ValueError: if a sample has no labels.
    """
    return torch.stack([_present(sample, num_classes) for sample in samples])


def class_labels(sample: BaseDataElement) -> Tensor | None:
    """The labels of a sample's boxes, of its segmentation's pixels, or its own.

    Args:
        sample: of mmdet, mmseg or mmpretrain.

    Returns:
        (n,); None if its pipeline packs none.
    """
    if "labels" in sample.get("gt_instances", ()):
        return sample.gt_instances.labels
    if "gt_sem_seg" in sample:
        return next(iter(sample.gt_sem_seg.values())).flatten().long()
    return sample.get("gt_label")


def _present(sample: BaseDataElement, num_classes: int) -> Tensor:
    labels = class_labels(sample)
    if labels is None:
        raise ValueError(
            "class_presence: expected samples with labels in gt_instances, with "
            f"gt_sem_seg or gt_label, got {', '.join(sample.keys()) or 'none'}. Check "
            "what the pipeline packs."
        )
    present = torch.zeros(num_classes, device=labels.device)
    present[labels[(labels >= 0) & (labels < num_classes)]] = 1
    return present


def image_labels(samples: Sequence[BaseDataElement]) -> Tensor:
    """The labels of mmpretrain's samples.

    Args:
        samples: with ``gt_score`` (mixed or multi-label targets) or ``gt_label``.

    Returns:
        (N, K) scores if there are any, else (N,) labels.
    """
    if "gt_score" in samples[0]:
        return torch.stack([sample.gt_score for sample in samples])
    return torch.cat([sample.gt_label for sample in samples])


def image_target(inputs: Tensor, preprocessor: nn.Module) -> Tensor:
    """The image in [0.01, 0.99], from what the data preprocessor made of it.

    Args:
        inputs: the model's input, (N, 3, H, W).
        preprocessor: its ``mean`` and ``std``, of pixels in 0 .. 255, are taken back if
            it has them.
    """
    if getattr(preprocessor, "mean", None) is not None:
        inputs = inputs * preprocessor.std + preprocessor.mean
    return (inputs / 255).clamp(0.01, 0.99)


def padding_mask(inputs: Tensor, samples: Sequence[BaseDataElement]) -> Tensor:
    """Where the input shows an image: 1 inside each sample's ``img_shape``, else 0.

    Args:
        inputs: (N, C, H, W).
        samples: the image fills (H, W) if a sample has no ``img_shape``.

    Returns:
        (N, 1, H, W).
    """
    mask = inputs.new_zeros(len(inputs), 1, *inputs.shape[-2:])
    for image, sample in zip(mask, samples, strict=True):
        height, width = sample.get("img_shape", inputs.shape[-2:])[:2]
        image[:, :height, :width] = 1
    return mask


def reconstruction_loss(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Binary cross entropy of the pixels, the mean over the images' own area.

    Args:
        logits: (N, 3, >= H, >= W); what lies beyond the input at the right and bottom,
            where the backbone padded it to whole cells, is left out.
        target: (N, 3, H, W).
        mask: (N, 1, H, W).
    """
    height, width = target.shape[-2:]
    loss = F.binary_cross_entropy_with_logits(
        logits[..., :height, :width].float(), target, reduction="none"
    )
    return (loss * mask).sum() / (mask.sum() * target.shape[1])
