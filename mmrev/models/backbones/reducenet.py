"""ReduceNet: residual blocks that training makes linear, one convolution each.

Reference: ohmydroid/reducenet @1d89127, MIT (models/reducenet.py, CIFAR), the version
in which the faded activation is what its formula says: before, an in-place ReLU kept
the network nonlinear at every fade. Written anew.
Deviations: sizes for dense prediction, four stages at strides 4 to 32 (a stem of stride
2, and every stage begins with a block of stride 2, so that nothing is pooled); a ReLU
that does not fade after the stem and after every block, without which the deployed
network is affine in the pixels (``activation_free=True`` leaves them out); the fade is
in the state dict; stochastic depth; zeros may be padded once a stage.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import reduce

import torch
from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn

from mmrev.models.backbones.base import (
    StagedBackbone,
    drop_path_rates,
    resolve_arch,
)
from mmrev.models.layers import Deployable, FadedReLU, Kernel, cheapest_grouping
from mmrev.registry import MODELS

NUM_STAGES = 4


def _arch(depths: list[int], expansion: int) -> dict:
    return {"channels": [64, 128, 256, 512], "depths": depths, "expansion": expansion}


# As many layers with weights as ResNet of that name: two a block, the stem and the
# classifier.
ARCHITECTURES = {
    "18": _arch([2, 2, 2, 2], 1),
    "34": _arch([3, 4, 6, 3], 2),
    "50": _arch([4, 6, 9, 5], 4),
}


class ReduceNetBlock(nn.Module):
    """A body that is linear once its activation has faded, a shortcut, an activation.

    Args:
        body: (N, C_in, H, W) to (N, C_out, H / s, W / s); fusible, see `Kernel.of`.
        shortcut: 'identity' adds the input, 'none' does not.
        activation: 'relu' or 'none', after the sum.
        drop_path_rate: probability of leaving out the body of a sample; without a
            shortcut, it never is.
        is_link: whether the input is added in what the block computes, by the shortcut
            or, deployed, by the body itself; None goes by the shortcut.
    """

    def __init__(
        self,
        body: nn.Module,
        shortcut: str,
        activation: str,
        drop_path_rate: float = 0.0,
        is_link: bool | None = None,
    ):
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.is_link = shortcut == "identity" if is_link is None else is_link
        drops = drop_path_rate and shortcut == "identity"
        self.drop_path = DropPath(drop_path_rate) if drops else nn.Identity()
        self.act = nn.ReLU(inplace=True) if activation == "relu" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / s, W / s)."""
        out = self.body(x)
        if self.shortcut == "identity":
            # Without padding the body's output is smaller, by as much at each side.
            lost = (x.shape[-1] - out.shape[-1]) // 2
            height, width = x.shape[-2:]
            out = self.drop_path(out)
            out = out + x[..., lost : height - lost, lost : width - lost]
        return self.act(out)

    def kernel(self) -> Kernel:
        """What the block computes before its activation."""
        kernel = Kernel.of(self.body)
        return kernel.plus_identity() if self.shortcut == "identity" else kernel


@MODELS.register_module()
class ReduceNet(Deployable, StagedBackbone):
    """ReduceNet with levels at strides 4, 8, 16 and 32.

    A block is a 3x3 convolution to ``expansion`` times its width, a faded activation
    and a 1x1 convolution, plus the input where the stride is 1; deployed, it is one 3x3
    convolution. A ReLU follows it.

    Args:
        arch: '18', '34', '50', or a dict with ``channels`` and ``depths`` (4 numbers
            each) and ``expansion``.
        in_channels: channels of the image.
        activation_free: leave out every ReLU that does not fade. At fade 0 the network
            is then affine in its input, whatever its depth.
        chain: None pads every convolution by itself. 'pre-pad' pads once, before a
            chain of blocks (the stem and stage 1; each other stage) as much as all of
            it needs: then also several blocks can become one convolution that is exact
            up to the border, and do where it is cheaper. Only with `activation_free`.
        drop_path_rate: largest stochastic depth rate.
        deploy: build the deployed form. Its weights are those that `switch_to_deploy`
            leaves.
        out_indices: levels to return.
        out_norm: 'layer_norm' normalises every returned level.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the first n
            stages.
        norm_eval: batch norms keep their running statistics in training.
        memory: 'store', 'recompute' or 'reverse', one of these a stage, or 'auto', see
            `StagedBackbone`.
        memory_budget_mb: of memory='auto', see `Backbone`.
        with_cp: True is ``memory='recompute'``.
        coupling: None or 'dual', see `StagedBackbone`.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: on a setting that does not exist.
    """

    couplings = ("dual",)

    def __init__(
        self,
        arch: str | dict = "50",
        in_channels: int = 3,
        activation_free: bool = False,
        chain: str | None = None,
        drop_path_rate: float = 0.0,
        deploy: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        memory: str | Sequence[str] = "store",
        memory_budget_mb: float | None = None,
        with_cp: bool = False,
        coupling: str | None = None,
        init_cfg: dict | None = None,
    ):
        settings = _settings_of(arch)
        super().__init__(
            channels=settings["channels"],
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            num_stages=NUM_STAGES,
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            with_cp=with_cp,
            coupling=coupling,
            init_cfg=init_cfg,
        )
        if chain not in (None, "pre-pad"):
            raise ValueError(
                f"ReduceNet: chain must be None or 'pre-pad', got {chain!r}."
            )
        if chain and not activation_free:
            raise ValueError(
                "ReduceNet: chain='pre-pad' needs blocks with nothing between them, "
                "got activation_free=False. Set that to True, or chain to None."
            )
        if chain and coupling:
            raise ValueError(
                "ReduceNet: a coupling needs blocks that keep the size of a map, got "
                f"chain='pre-pad' and coupling={coupling!r}. Set one of them to None."
            )
        self.norm_eval = norm_eval
        self.activation_free = activation_free
        self.depths = list(settings["depths"])
        rates = drop_path_rates(drop_path_rate, self.depths)
        with torch.device("meta") if deploy else nullcontext():
            width = self.channels[0]
            self.stem = ReduceNetBlock(
                nn.Sequential(
                    nn.Conv2d(in_channels, width, 3, 2, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    *([FadedReLU()] if activation_free else []),
                ),
                shortcut="none",
                activation=self._activation,
            )
            self.stages = nn.ModuleList()
            for out_channels, stage_rates in zip(self.channels, rates, strict=True):
                blocks = []
                for index, rate in enumerate(stage_rates):
                    stride = 1 if index else 2
                    body = _body(width, out_channels, settings["expansion"], stride)
                    shortcut = "identity" if index else "none"
                    blocks.append(
                        ReduceNetBlock(body, shortcut, self._activation, rate)
                    )
                    width = out_channels
                self.stages.append(nn.Sequential(*blocks))
        if chain:
            for blocks in self._chains():
                _pad_once([block.body[0] for block in blocks])
        if deploy:
            self.switch_to_deploy()
        self._finish()

    def links(self, module: nn.Module) -> list[nn.Module]:
        """A block, but for one that changes the shape."""
        return [module] if module.is_link else []

    @property
    def _activation(self) -> str:
        """After the stem and every block."""
        return "none" if self.activation_free else "relu"

    def _chains(self) -> list[list[ReduceNetBlock]]:
        """The blocks between one level and the next."""
        first, *others = self.stages
        return [[self.stem, *first], *map(list, others)]

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _fuse(self) -> None:
        like = next(self.stages.parameters())
        for stage, blocks in enumerate(self._chains()):
            kernels = [block.kernel() for block in blocks]
            # A ReLU behind each block, or a coupling, leaves only groups of one.
            lengths = [1] * len(kernels)
            if self.activation_free and not self.coupling:
                lengths = cheapest_grouping(kernels)
            fused = []
            for length in lengths:
                group, kernels = kernels[:length], kernels[length:]
                conv = reduce(Kernel.then, group).to_conv(like)
                link = bool(self.coupling) and blocks[len(fused)].is_link
                fused.append(
                    ReduceNetBlock(conv, "none", self._activation, is_link=link)
                )
            if not stage:
                # What the stem shares with a block is done there.
                self.stem = fused.pop(0) if lengths[0] == 1 else nn.Identity()
            self.stages[stage] = nn.Sequential(*fused)
        self.depths = [len(stage) for stage in self.stages]


def _body(
    in_channels: int, out_channels: int, expansion: int, stride: int
) -> nn.Sequential:
    hidden_channels = expansion * out_channels
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(hidden_channels),
        FadedReLU(),
        nn.Conv2d(hidden_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _pad_once(convs: Sequence[nn.Conv2d]) -> None:
    """Give the first convolution of a chain the padding of all."""
    strides = [
        math.prod(conv.stride[0] for conv in convs[:i]) for i in range(len(convs))
    ]
    total = sum(
        conv.padding[0] * stride for conv, stride in zip(convs, strides, strict=True)
    )
    for conv in convs:
        conv.padding = (0, 0)
    convs[0].padding = (total, total)


def _settings_of(arch: str | dict) -> dict:
    arch = resolve_arch(
        "ReduceNet", arch, ARCHITECTURES, ("channels", "depths", "expansion")
    )
    for key in ("channels", "depths"):
        values = arch[key]
        if len(values) != NUM_STAGES or min(values) < 1:
            raise ValueError(
                f"ReduceNet: arch {key} must be {NUM_STAGES} numbers >= 1, got "
                f"{values}."
            )
    if arch["expansion"] < 1:
        raise ValueError(
            f"ReduceNet: arch expansion must be >= 1, got {arch['expansion']}."
        )
    return arch
