"""VanillaNet: few wide layers, without shortcuts.

Paper: VanillaNet: the Power of Minimalism in Deep Learning, arXiv 2305.12972.
Reference: huawei-noah/VanillaNet @6aaf731, MIT (models/vanillanet.py; for detection
object_detection/mmdet/models/backbones/vanillanet.py). Written anew; same parameters
and values.
Deviations: the leaky slope is ``1 - fade``, and the fade is in the state dict; any
input size (images are padded to a multiple of 4 at the right and bottom, pooling
rounds up); the level at stride 4 of VanillaNet-5 and -6 is the stem's output; no
adaptive pooling (VanillaNet-13-1.5x+ has it, for one input size); the classifier is the
head's business, one linear layer instead of two with a faded activation.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from mmrev.models.backbones.base import (
    StagedBackbone,
    init_trunc_normal,
    resolve_arch,
)
from mmrev.models.layers import Deployable, FadedReLU, Kernel, pad_to_multiple
from mmrev.registry import MODELS

STEM_STRIDE = 4
NUM_LEVELS = 4
BN_EPS = 1e-6


def _arch(blocks_at_4: int, blocks_at_16: int, blocks_at_32: int) -> dict:
    """Widths 512, 1024, 2048 and 4096, one a stride; at stride 8 one block."""
    depths = (blocks_at_4, 1, blocks_at_16, blocks_at_32)
    channels, strides = [512], []
    for index, depth in enumerate(depths):
        channels += [512 * 2**index] * depth
        strides += [2 if index and not block else 1 for block in range(depth)]
    return {"channels": channels, "strides": strides}


ARCHITECTURES = {
    "5": _arch(0, 1, 1),
    "6": _arch(0, 1, 2),
    "7": _arch(1, 1, 2),
    **{str(6 + blocks): _arch(1, blocks, 2) for blocks in range(2, 8)},
}


class SeriesActivation(nn.Module):
    """ReLU, then a depthwise convolution: a sum of shifted activations.

    Args:
        channels: C.
        act_num: reach of the convolution, whose kernel is ``2 * act_num + 1`` wide.
    """

    def __init__(self, channels: int, act_num: int):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Sequential(
            nn.Conv2d(
                channels,
                channels,
                2 * act_num + 1,
                padding=act_num,
                groups=channels,
                bias=False,
            ),
            nn.BatchNorm2d(channels, eps=BN_EPS),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        return self.conv(self.relu(x))


class VanillaNetBlock(nn.Module):
    """Two convolutions with a faded activation between them, pooling, an activation.

    Args:
        in_channels: C_in.
        mid_channels: between the convolutions.
        out_channels: C_out.
        patch_size: kernel and stride of the first convolution; the stem's is 4.
        pool_size: of the maximum pooling.
        act_num: of the activation.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        patch_size: int = 1,
        pool_size: int = 1,
        act_num: int = 3,
    ):
        super().__init__()
        self.patch_size = patch_size
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, patch_size, patch_size),
            nn.BatchNorm2d(mid_channels, eps=BN_EPS),
            FadedReLU(),
            nn.Conv2d(mid_channels, out_channels, 1),
            nn.BatchNorm2d(out_channels, eps=BN_EPS),
        )
        self.pool = (
            nn.MaxPool2d(pool_size, ceil_mode=True) if pool_size > 1 else nn.Identity()
        )
        self.act = SeriesActivation(out_channels, act_num)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, ceil(H / s), ceil(W / s)), s = patch * pool."""
        x = self.conv(pad_to_multiple(x, self.patch_size))
        return self.act(self.pool(x))

    def fuse(self) -> None:
        """Make one convolution of each of the two sequences.

        The activation's could also be merged with the next block's, exactly, but not
        cheaply: into a dense kernel of its size.
        """
        for module in (self, self.act):
            kernel = Kernel.of(module.conv)
            module.conv = kernel.to_conv(like=module.conv[0].weight)


@MODELS.register_module()
class VanillaNet(Deployable, StagedBackbone):
    """VanillaNet with levels at strides 4, 8, 16 and 32.

    Args:
        arch: '5' to '13', or a dict with ``channels`` (of the stem and of every block)
            and ``strides`` (of every block, 1 or 2, three of them 2). A level is the
            last map at its stride.
        in_channels: channels of the image.
        act_num: reach of the activations' convolutions, 3 in the paper; the released
            weights for detection have 4.
        deploy: build the deployed form, where each block is one convolution, pooling
            and an activation. Its weights are those that `switch_to_deploy` leaves.
        out_indices: levels to return.
        out_norm: 'layer_norm' normalises every returned level; None as in the paper.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the blocks of
            the first n levels.
        norm_eval: batch norms keep their running statistics in training.
        memory: 'store' or 'recompute', one of these a stage, or 'auto', see
            `StagedBackbone`.
        memory_budget_mb: of memory='auto', see `Backbone`.
        with_cp: True is ``memory='recompute'``.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``; the official files load
            as they are, and count as faded.

    Raises:
        ValueError: on a setting that does not exist.
    """

    def __init__(
        self,
        arch: str | dict = "13",
        in_channels: int = 3,
        act_num: int = 3,
        deploy: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        memory: str | Sequence[str] = "store",
        memory_budget_mb: float | None = None,
        with_cp: bool = False,
        init_cfg: dict | None = None,
    ):
        channels, strides = _settings_of(arch)
        ends = [i for i, stride in enumerate(strides) if stride == 2] + [len(strides)]
        super().__init__(
            channels=[channels[end] for end in ends],
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            num_stages=NUM_LEVELS,
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            with_cp=with_cp,
            coupling=None,
            init_cfg=init_cfg,
        )
        self.norm_eval = norm_eval
        self.embed_channels = channels[0]
        starts = [0, *ends[:-1]]
        self.depths = [end - start for start, end in zip(starts, ends, strict=True)]
        with torch.device("meta") if deploy else nullcontext():
            self.stem = VanillaNetBlock(
                in_channels,
                channels[0],
                channels[0],
                patch_size=STEM_STRIDE,
                act_num=act_num,
            )
            self.stages = nn.ModuleList(
                nn.Sequential(
                    *(
                        VanillaNetBlock(
                            channels[i],
                            channels[i],
                            channels[i + 1],
                            pool_size=strides[i],
                            act_num=act_num,
                        )
                        for i in range(start, end)
                    )
                )
                for start, end in zip(starts, ends, strict=True)
            )
        if deploy:
            self.switch_to_deploy()
        self._finish()

    def _init_weights(self) -> None:
        init_trunc_normal(self)

    def _fuse(self) -> None:
        for block in (self.stem, *(block for stage in self.stages for block in stage)):
            block.fuse()


def _settings_of(arch: str | dict) -> tuple[list[int], list[int]]:
    """Channels and strides."""
    arch = resolve_arch("VanillaNet", arch, ARCHITECTURES, ("channels", "strides"))
    channels, strides = list(arch["channels"]), list(arch["strides"])
    if len(channels) != len(strides) + 1:
        raise ValueError(
            "VanillaNet: arch channels must be one number more than arch strides (the "
            f"stem's), got {len(channels)} and {len(strides)}."
        )
    if set(strides) - {1, 2} or strides.count(2) != NUM_LEVELS - 1:
        raise ValueError(
            "VanillaNet: arch strides must be 1 or 2, three of them 2, so that the "
            f"last blocks have stride 32; got {strides}."
        )
    return channels, strides
