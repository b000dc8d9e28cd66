"""The last convolution of an NFNet, activation, average: its classifier's input.

Reference: google-deepmind/deepmind-research @f5de0ed, nfnets/nfnet.py, Apache-2.0.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrev.models.layers.ws_conv import GELU_GAMMA, WSConv2d, gelu
from mmrev.registry import MODELS


@MODELS.register_module()
class NFNetPooling(BaseModule):
    """Widen the last level, average it over space, drop some of the features.

    Args:
        in_channels: channels of the last level, C.
        dropout_rate: share of the features that training sets to 0.
        flavour: as of `mmrev.NFNet`.
        init_cfg: of mmengine.
    """

    def __init__(
        self,
        in_channels: int,
        dropout_rate: float = 0.0,
        flavour: str = "deepmind",
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.conv = WSConv2d(in_channels, 2 * in_channels, flavour=flavour)
        self.act = gelu(flavour)
        self.dropout = nn.Dropout(dropout_rate)

    def init_weights(self) -> None:
        """Initialise as the backbone's convolutions."""
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="linear")
        nn.init.zeros_(self.conv.bias)
        super().init_weights()

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor]:
        """Pool the last of the levels.

        Args:
            levels: feature maps, the last one (N, C, H, W).

        Returns:
            One tensor, (N, 2 C), in a tuple as mmpretrain's heads expect.
        """
        x = self.act(self.conv(levels[-1]))
        return (self.dropout(GELU_GAMMA * x.mean((2, 3))),)
