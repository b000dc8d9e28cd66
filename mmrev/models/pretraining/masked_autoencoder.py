"""A masked backbone whose decoder is a part of it, and stays.

Paper: RevColV2, arXiv 2309.01005, caption of figure 2: in pretraining the bottom-up
columns take the image's visible patches, the top-down columns what these give and mask
tokens. Read into it, as no more could be read: the maps stay dense, as convolutions
need neighbours, a masked patch being 0 behind the stem, whose patches do not overlap;
between up and down, a token takes the place of every cell of which nothing is visible,
one for each level.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.backbones import RevColV2
from mmrev.models.pretraining.masked_backbone import MaskedBackbone, fit_mask
from mmrev.registry import MODELS


@MODELS.register_module()
class MaskedAutoencoder(MaskedBackbone):
    """A `mmrev.RevColV2` for masked-image pretraining; a checkpoint is one of it.

    As `MaskedBackbone`, but the bottom-up columns see no token. ``mask_token`` holds
    those of all levels, finest first.

    Args:
        backbone: config of a `mmrev.RevColV2`.

    Raises:
        ValueError: on another backbone.
    """

    def __init__(self, backbone: dict):
        super().__init__(backbone)
        if not isinstance(self.model, RevColV2):
            raise ValueError(
                "MaskedAutoencoder: expected a backbone with a decoder of its own, "
                f"mmrev.RevColV2, got {type(self.model).__name__}. Use "
                "mmrev.MaskedBackbone."
            )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, sum(self.model.channels)))

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the backbone's levels of images that are masked where the mask is 1.

        Args:
            images: (N, in_channels, H, W).
            mask: (N, h, w) of 0 and 1, on cells of one size that cover the image; None
                masks nothing.

        Raises:
            ValueError: if the cells do not fit those of the stem, see `fit_mask`.
        """
        if mask is None:
            return self.model(images)
        self.model.plan(images)
        x = self.model.embed(images)
        visible = ~fit_mask(mask, x.shape[2:])[:, None]
        tokens = self.mask_token.flatten().split(self.model.channels)

        def join(states: list[Tensor]) -> list[Tensor]:
            return [
                torch.where(
                    F.max_pool2d(visible.float(), 2**index).bool(),
                    state,
                    token.to(state.dtype).view(-1, 1, 1),
                )
                for index, (state, token) in enumerate(zip(states, tokens, strict=True))
            ]

        return self.model.encode(x * visible, join)
