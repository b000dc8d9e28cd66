"""The first of the two layers by which VanillaNet is trained to classify.

Paper: VanillaNet, arXiv 2305.12972, section 3.1.
Reference: huawei-noah/VanillaNet @6aaf731, models/vanillanet.py (cls1), MIT.
"""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrev.models.backbones.vanillanet import BN_EPS
from mmrev.models.layers import FadedReLU
from mmrev.registry import MODELS


@MODELS.register_module()
class VanillaNetPooling(BaseModule):
    """Average the last level, drop some of it, and classify it once.

    What follows is a linear classifier of the classifier's output: once the activation
    between the two has faded, see `mmrev.FadeHook`, both are one linear layer.

    Args:
        in_channels: channels of the last level, C.
        out_channels: of the first classifier, K.
        dropout_rate: share of the features that training sets to 0.
        init_cfg: of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout_rate: float = 0.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.dropout = nn.Dropout(dropout_rate)
        self.classify = nn.Sequential(
            nn.Linear(in_channels, out_channels),
            nn.BatchNorm1d(out_channels, eps=BN_EPS),
            FadedReLU(),
        )

    def init_weights(self) -> None:
        """Initialise as the backbone's convolutions."""
        nn.init.trunc_normal_(self.classify[0].weight, std=0.02)
        nn.init.zeros_(self.classify[0].bias)
        super().init_weights()

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Pool the last of the levels.

        Args:
            levels: feature maps, the last one (N, C, H, W).

        Returns:
            One tensor, (N, K), in a tuple as mmpretrain's heads expect.
        """
        return (self.classify(self.dropout(levels[-1].mean((2, 3)))),)
