"""Where a feature looks: the effective receptive field.

Source: Luo et al., arXiv 1701.04128: the gradient of the centre of a map with respect
to the image. The channels are summed with random signs: with 1 for all, those of a map
behind a LayerNorm would cancel out.
"""

import torch
from torch import Tensor

__all__ = ["area", "contributions"]


def contributions(feature: Tensor, image: Tensor, generator: torch.Generator) -> Tensor:
    """How much each pixel of an image moves the centre of a feature.

    Gradients of `image` are replaced, and the graph is kept for further features.

    Args:
        feature: (1, C, h, w), computed from `image`; its centre is (h // 2, w // 2).
        image: (1, 3, H, W), a leaf that requires a gradient.
        generator: of the signs, on the CPU.

    Returns:
        (H, W): absolute gradients, summed over the image's channels; zeros if the
        feature does not depend on the image.
    """
    centre = feature[0, :, feature.shape[2] // 2, feature.shape[3] // 2]
    signs = 2 * torch.randint(2, centre.shape, generator=generator) - 1
    image.grad = None
    if feature.requires_grad:
        # Not autograd.grad, which blocks under torch's older checkpointing refuse.
        (centre @ signs.to(centre)).backward(retain_graph=True)
    if image.grad is None:
        return torch.zeros_like(image[0, 0])
    return image.grad[0].abs().sum(0)


def area(field: Tensor, share: float) -> float | None:
    """The smallest part of an image that holds a share of all contributions.

    Args:
        field: mean of `contributions` over images, (H, W).
        share: in 0..1.

    Returns:
        In 0..1, of the image's area; None if nothing contributes.
    """
    strongest = field.double().flatten().sort(descending=True).values.cumsum(0)
    total = strongest[-1]
    if not total > 0:
        return None
    return int((strongest < share * total).sum() + 1) / strongest.numel()
