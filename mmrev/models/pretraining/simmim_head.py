"""The loss of SimMIM, with the normalised target of Swin-V2's pretraining.

Papers: SimMIM, arXiv 2111.09886, section 3.4 (prediction targets).
Reference: microsoft/Swin-Transformer @f82860b, MIT, models/simmim.py (norm_targets).
Deviations: statistics in fp32 under autocast, too; averages one axis after the other.
"""

import torch
import torch.nn.functional as F
from mmpretrain.models.heads import SimMIMHead as _SimMIMHead
from torch import Tensor

from mmrev.registry import MODELS

EPSILON = 1e-6


@MODELS.register_module()
class SimMIMHead(_SimMIMHead):
    """mmpretrain's head, whose target may be normalised by the pixels around.

    Args:
        patch_size: pixels of a cell of the mask, as the mask generator's
            ``model_patch_size``.
        loss: config of the loss; SimMIM's is mmpretrain's PixelReconstructionLoss with
            criterion 'L1' and channel 3.
        target_window: None: the target is the image; or the odd side of the window
            around every pixel by whose mean and variance it is normalised, channel by
            channel. Swin-V2's is 47.

    Raises:
        ValueError: if the window is not odd and larger than 1.
    """

    def __init__(self, patch_size: int, loss: dict, target_window: int | None = None):
        super().__init__(patch_size, loss)
        if target_window is not None and (target_window % 2 == 0 or target_window < 3):
            raise ValueError(
                "SimMIMHead: target_window must be None or an odd number from 3 on, "
                f"got {target_window}. Swin-V2's is 47."
            )
        self.target_window = target_window

    def loss(self, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """The error of the masked pixels.

        Args:
            pred: (N, 3, H, W).
            target: images, of the same shape.
            mask: (N, H / patch_size, W / patch_size) of 0 and 1.

        Raises:
            ValueError: on other shapes.
        """
        covered = tuple(self.patch_size * side for side in mask.shape[1:])
        if pred.shape != target.shape or covered != target.shape[2:]:
            raise ValueError(
                "SimMIMHead: expected a prediction and a mask of the images' "
                f"{_sides(target.shape[2:])} pixels, got a prediction of "
                f"{_sides(pred.shape[2:])} and a mask of {_sides(mask.shape[1:])} "
                f"cells of {self.patch_size} pixels. The neck's encoder_stride must be "
                "the level's stride and divide the images' sides; patch_size must be "
                "the mask generator's model_patch_size."
            )
        if self.target_window:
            target = normalise(target, self.target_window)
        return super().loss(pred, target, mask)


def normalise(images: Tensor, window: int) -> Tensor:
    """Normalise every pixel by the window around it, as far as the image reaches.

    Args:
        images: (N, C, H, W).
        window: side, odd.

    Returns:
        Of the same shape: less the mean, over the root of the unbiased variance, of the
        same channel.
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.float()
        mean, square = _average(images, window), _average(images**2, window)
        rows, columns = (
            _count(side, window, images.device) for side in images.shape[2:]
        )
        count = rows[:, None] * columns
        variance = (square - mean**2) * (count / (count - 1))
        return (images - mean) / (variance.clamp(min=0) + EPSILON).sqrt()


def _average(x: Tensor, window: int) -> Tensor:
    """Mean of the window around every pixel, one axis after the other.

    What of a window is inside the image is a rectangle, so that the mean of its rows'
    means is its own, for a fraction of the additions.
    """
    reach = window // 2
    for size, padding in (((window, 1), (reach, 0)), ((1, window), (0, reach))):
        x = F.avg_pool2d(x, size, 1, padding, count_include_pad=False)
    return x


def _count(side: int, window: int, device: torch.device) -> Tensor:
    """How many pixels of a window around each are inside the image, along an axis."""
    place, reach = torch.arange(side, device=device), window // 2
    return (place + reach + 1).clamp(max=side) - (place - reach).clamp(min=0)


def _sides(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
