"""mmseg's segmentor, whose heads predict at the size of what they are given."""

import mmseg.models
from torch import Tensor

from mmrev.registry import MODELS

__all__ = ["EncoderDecoder"]


@MODELS.register_module()
class EncoderDecoder(mmseg.models.EncoderDecoder):
    """`mmseg.EncoderDecoder` with ``test_cfg.mode='slide'`` for every head.

    mmseg tells a window's size to the first image of a batch alone, by one of the two
    keys that heads read; Mask2Former's reads the other, and predicts a window at the
    size of the whole image.
    """

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Predict images, or the same window of each.

        Args:
            inputs: (N, 3, H, W).
            batch_img_metas: of the N images.

        Returns:
            Logits of the classes, (N, K, H, W).
        """
        size = inputs.shape[2:]
        own = dict.fromkeys(("img_shape", "pad_shape", "batch_input_shape"), size)
        metas = [{**meta, **own} for meta in batch_img_metas]
        return super().encode_decode(inputs, metas)
