"""A backbone that sees a learnt token where an image is masked.

Paper: SimMIM, arXiv 2111.09886, section 3.2 (masking strategy).
Reference: microsoft/Swin-Transformer @f82860b, MIT, models/simmim.py; as there, the
token replaces what the patch embedding gives, before positions are added. Other stems
than patch embeddings overlap: what they give beside a masked patch has seen a few of
its pixels.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrev.models.backbones.base import Backbone
from mmrev.models.inner_names import keep_inner_names
from mmrev.registry import MODELS

CAN_MASK = (
    "mmrev.SwinTransformerV2, mmrev.RevCol, mmrev.RevColV2, mmrev.NFNet, and "
    "transformers whose patch_embed gives tokens, as mmpretrain.VisionTransformer"
)


@MODELS.register_module()
class MaskedBackbone(BaseModule):
    """Wraps a backbone for masked-image pretraining; call it with images and a mask.

    In a state dict the backbone's keys are its own, and ``mask_token`` is one more:
    `mmrev.checkpoints` drops it, so that a checkpoint of the pretraining is one of the
    plain backbone.

    Args:
        backbone: config of a backbone of this suite with `Backbone.embed`, or of one
            whose ``patch_embed`` gives tokens, (N, L, C), and their (H, W).

    Raises:
        ValueError: on any other, and on one with BatchNorm: its statistics would be
            those of masked images, which are not met again.
    """

    def __init__(self, backbone: dict):
        super().__init__()
        self.model = MODELS.build(backbone)
        name = type(self.model).__name__
        if any(isinstance(module, _BatchNorm) for module in self.model.modules()):
            raise ValueError(
                "MaskedBackbone: expected a backbone without BatchNorm, whose "
                "statistics would be those of masked images, got "
                f"{name}. Use one of {CAN_MASK}."
            )
        if isinstance(self.model, Backbone):
            channels = self.model.embed_channels
        else:
            patch_embed = getattr(self.model, "patch_embed", None)
            channels = getattr(patch_embed, "embed_dims", None)
        if channels is None:
            raise ValueError(
                "MaskedBackbone: expected a backbone with a map or tokens that a mask "
                f"can be laid on before its first block, got {name}. Use one of "
                f"{CAN_MASK}."
            )
        self.mask_token = nn.Parameter(torch.zeros(1, 1, channels))
        keep_inner_names(self)

    def init_weights(self) -> None:
        """Initialise the backbone as it does itself, and the token."""
        self.model.init_weights()
        trunc_normal_(self.mask_token, std=0.02)
        self._is_init = True

    @property
    def no_weight_decay(self) -> tuple[str, ...]:
        """The backbone's, and the token."""
        return ("mask_token", *getattr(self.model, "no_weight_decay", ()))

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, as the backbone counts; the token is of the stem."""
        if param_name == f"{prefix}mask_token":
            return 0, self.model.get_layer_depth(param_name, prefix)[1]
        return self.model.get_layer_depth(param_name, f"{prefix}model.")

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the backbone's levels, with the token where the mask is 1.

        Args:
            images: (N, in_channels, H, W).
            mask: (N, h, w) of 0 and 1, on cells of one size that cover the image; None
                masks nothing.

        Raises:
            ValueError: if the cells neither divide the backbone's own nor consist of
                them, or one of its own is masked in part.
        """
        if mask is None:
            return self.model(images)
        if isinstance(self.model, Backbone):
            self.model.plan(images)
            return self.model.encode(self._cover(self.model.embed(images), mask))

        def cover(_: nn.Module, __: Any, output: tuple) -> tuple:
            tokens, size = output
            tokens = self._cover(tokens.unflatten(1, size), mask)
            return tokens.flatten(1, 2), size

        handle = self.model.patch_embed.register_forward_hook(cover)
        try:
            return self.model(images)
        finally:
            handle.remove()

    def _cover(self, x: Tensor, mask: Tensor) -> Tensor:
        """Put the token where a feature is masked."""
        token = self.mask_token.to(x.dtype)
        if isinstance(self.model, Backbone) and not self.model.channels_last:
            mask = fit_mask(mask, x.shape[2:])
            return torch.where(mask[:, None], token.view(-1, 1, 1), x)
        return torch.where(fit_mask(mask, x.shape[1:3])[..., None], token, x)


def fit_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a mask onto the cells of a feature.

    Args:
        mask: (N, h, w) of 0 and 1.
        size: H and W of the feature.

    Returns:
        (N, H, W), bool.

    Raises:
        ValueError: if neither size divides the other, or a cell is masked in part.
    """
    mask = mask.bool()
    for axis, wanted in zip((1, 2), size, strict=True):
        given = mask.shape[axis]
        if wanted % given == 0:
            mask = mask.repeat_interleave(wanted // given, axis)
        elif given % wanted == 0:
            parts = mask.unflatten(axis, (wanted, given // wanted))
            mask = parts.any(axis + 1)
            if not torch.equal(mask, parts.all(axis + 1)):
                raise ValueError(
                    f"MaskedBackbone: expected masks of whole cells of the stem's "
                    f"{size[0]} x {size[1]} map, got some masked in part. Use a "
                    "mask_patch_size that the stem's stride divides."
                )
        else:
            raise ValueError(
                "MaskedBackbone: expected a mask whose sides divide, or are divided "
                f"by, those of the stem's map, {size[0]} x {size[1]}, got "
                f"{mask.shape[1]} x {mask.shape[2]}. Give the mask generator the "
                "input_size of the images, and as model_patch_size the stem's stride."
            )
    return mask
