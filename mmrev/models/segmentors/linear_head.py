"""A head that only reads what features say of each pixel linearly.

As the linear protocol of DINOv2 and DINOv3 has it (facebookresearch/dinov3 @78dc9b8,
dinov3/eval/segmentation/config.py): batch normalisation, dropout, one 1x1 convolution.
"""

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from mmrev.registry import MODELS

__all__ = ["LinearHead"]


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """BatchNorm and a 1x1 convolution on the last level, or on several as one.

    Args:
        in_channels: a number: of the last level alone; a list: of all levels, which are
            resized to the first one and concatenated.
        norm_cfg: of the norm.
        **settings: of mmseg's `BaseDecodeHead`: ``num_classes``, ``dropout_ratio`` and
            others.
    """

    def __init__(
        self, in_channels: int | Sequence[int], norm_cfg: dict, **settings: Any
    ):
        if isinstance(in_channels, int):
            place = {"in_index": -1, "channels": in_channels}
        else:
            place = {
                "in_index": list(range(len(in_channels))),
                "channels": sum(in_channels),
                "input_transform": "resize_concat",
            }
        super().__init__(
            in_channels=in_channels, norm_cfg=norm_cfg, **place, **settings
        )
        _, self.norm = build_norm_layer(norm_cfg, self.channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits of the classes, (N, K, H, W) of the last level, or of the first.

        Args:
            inputs: the levels, finest first, (N, C[l], H[l], W[l]).
        """
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
