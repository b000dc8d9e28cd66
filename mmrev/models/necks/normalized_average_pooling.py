"""Average, then normalise: the classifier's input in RevCol.

Reference: megvii-research/RevCol @1680848, models/revcol.py (Classifier). mmpretrain
has the average alone, and its ConvNeXt normalises inside the backbone.
"""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmrev.registry import MODELS


@MODELS.register_module()
class NormalizedAveragePooling(BaseModule):
    """Average the last level over space, then LayerNorm over channels.

    Args:
        in_channels: channels of the last level, C.
        init_cfg: of mmengine.
    """

    def __init__(self, in_channels: int, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.norm = nn.LayerNorm(in_channels, eps=1e-6)

    def forward(self, levels: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Pool the last of the levels.

        Args:
            levels: feature maps, the last one (N, C, H, W).

        Returns:
            One tensor, (N, C), in a tuple as mmpretrain's heads expect.
        """
        return (self.norm(levels[-1].mean(dim=(-2, -1))),)
