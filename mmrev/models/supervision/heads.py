"""What intermediate supervision puts on a column.

Paper: RevCol, arXiv 2212.11696, section 2.3 and appendix.
Reference: megvii-research/RevCol @1680848, models/revcol.py (Classifier) and
models/modules.py (Decoder, SimDecoder). Written anew; same layers.
"""

from itertools import pairwise

from torch import nn

from mmrev.models.layers import ConvNeXtBlock, LayerNorm2d

IMAGE_CHANNELS = 3
COLUMN_STRIDE = 32
# The reference decodes with a single projection when it trains on ImageNet-22k.
MOST_CLASSES_WITH_DECODER = 1000


def build_classifier(channels: int, num_classes: int) -> nn.Module:
    """Classifier of a feature map: average, LayerNorm, Linear.

    Args:
        channels: C.
        num_classes: K.

    Returns:
        Module from (N, C, h, w) to logits, (N, K).
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.LayerNorm(channels, eps=1e-6),
        nn.Linear(channels, num_classes),
    )


def build_decoder(channels: list[int], num_classes: int) -> nn.Module:
    """Decoder of the image from a column's coarsest level.

    Args:
        channels: of the column's levels, finest first.
        num_classes: of the classifier beside it. Up to 1000: three stages of 1x1
            convolution, LayerNorm, GELU, twofold upsampling and a ConvNeXt block, then
            a projection of every cell to 4x4 pixels ('Decoder' in the reference).
            Above: a projection of every cell to 32x32 pixels ('SimDecoder').

    Returns:
        Module from (N, channels[-1], h, w) to logits of the pixels, (N, 3, 32h, 32w).
    """
    if num_classes > MOST_CLASSES_WITH_DECODER:
        return nn.Sequential(
            LayerNorm2d(channels[-1]), *_project(channels[-1], COLUMN_STRIDE)
        )
    widths = channels[::-1]
    stages = [
        nn.Sequential(
            nn.Conv2d(coarse, fine, kernel_size=1),
            LayerNorm2d(fine),
            nn.GELU(),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            ConvNeXtBlock(fine, hidden_channels=fine),
        )
        for coarse, fine in pairwise(widths)
    ]
    return nn.Sequential(*stages, *_project(widths[-1], COLUMN_STRIDE >> len(stages)))


def _project(channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    """Project every cell to stride x stride pixels."""
    pixels = IMAGE_CHANNELS * stride**2
    return nn.Conv2d(channels, pixels, kernel_size=1), nn.PixelShuffle(stride)
