"""NFNet: residual networks without normalisation of activations.

Paper: High-Performance Large-Scale Image Recognition Without Normalization,
arXiv 2102.06171.
References: google-deepmind/deepmind-research @f5de0ed, nfnets/ (JAX), Apache-2.0;
timm 1.0.31, models/nfnet.py (dm_nfnet_*), Apache-2.0. Written anew; same parameters and
values, those of one of the two by `flavour`.
Deviations: the constants that scale activations are multiplied into the kernels behind
them; a gain is (C,), in timm (C, 1, 1, 1); the final convolution belongs to the
classifier, `mmrev.NFNetPooling`; the + variants have DeepMind's stem, which timm's code
would widen.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.backbones.base import (
    StagedBackbone,
    drop_path_rates,
    resolve_arch,
)
from mmrev.models.layers.ws_conv import FLAVOURS, GELU_GAMMA, WSConv2d, gelu
from mmrev.registry import MODELS

ALPHA = 0.2
STEM_CHANNELS = (16, 32, 64)
GROUP_WIDTH = 128
DEPTHS = (1, 2, 6, 3)

ARCHITECTURES = {
    f"F{size}{plus}": {
        "channels": [384, 768, 2048, 2048] if plus else [256, 512, 1536, 1536],
        "depths": [depth * (size + 1) for depth in DEPTHS],
    }
    for plus in ("", "+")
    for size in range(8)
}


class SqueezeExcite(nn.Module):
    """Gates from the channels' averages (arXiv 1709.01507).

    Args:
        channels: C; the hidden layer has half of them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 2)
        self.fc2 = nn.Linear(channels // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1), in (0, 1)."""
        # The gradient of a mean would be a map of its own, in another memory order.
        wide = torch.promote_types(x.dtype, torch.float32)
        mean = x.sum((2, 3), dtype=wide) / (x.shape[2] * x.shape[3])
        x = self.fc1(mean.to(x.dtype)).relu()
        return self.fc2(x).sigmoid()[:, :, None, None]


class NFBlock(nn.Module):
    """Pre-activation bottleneck with two grouped convolutions.

    Args:
        in_channels: C_in.
        channels: C.
        stride: 1 or 2.
        variance: expected of the input; the activations are divided by its root.
        group_width: channels of a group.
        drop_path_rate: probability of leaving out the branch of a sample.
        skip_gain_init_value: initial value of the branch's learnt factor.
        flavour: 'deepmind' or 'timm'.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int,
        variance: float,
        group_width: int,
        drop_path_rate: float,
        skip_gain_init_value: float,
        flavour: str,
    ):
        super().__init__()
        width = channels // 2 // group_width * group_width
        first = dict(flavour=flavour, input_scale=GELU_GAMMA * variance**-0.5)
        other = dict(flavour=flavour, input_scale=GELU_GAMMA)
        grouped = dict(other, groups=width // group_width, activation="gelu")
        self.stride = stride
        if stride > 1 or in_channels != channels:
            self.shortcut = WSConv2d(in_channels, channels, **first)
        self.act = gelu(flavour)
        self.conv1 = WSConv2d(in_channels, width, activation="gelu", **first)
        self.conv2 = WSConv2d(width, width, 3, stride, **grouped)
        self.conv3 = WSConv2d(width, width, 3, **grouped)
        self.conv4 = WSConv2d(width, channels, **other)
        self.se = SqueezeExcite(channels)
        self.skip_gain = nn.Parameter(torch.tensor(float(skip_gain_init_value)))
        self.drop_path_rate = drop_path_rate
        self.rescale = flavour == "timm"

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        branch, shortcut = self.act(x), x
        if hasattr(self, "shortcut"):
            shortcut = branch
            if self.stride > 1:
                shortcut = F.avg_pool2d(
                    shortcut, 2, ceil_mode=True, count_include_pad=False
                )
            shortcut = self.shortcut(shortcut)
        branch = self.conv4(self.conv3(self.conv2(self.conv1(branch))))
        # All factors of the branch at once: 2 makes up for a gate of 1/2.
        gate = self.drop(self.se(branch)) * (2 * ALPHA * self.skip_gain)
        return torch.addcmul(shortcut, branch, gate)

    def drop(self, gate: Tensor) -> Tensor:
        """Stochastic depth, on the gates (N, C, 1, 1)."""
        if not (self.training and self.drop_path_rate):
            return gate
        kept = 1 - self.drop_path_rate
        mask = gate.new_empty(len(gate), 1, 1, 1).bernoulli_(kept)
        return gate * (mask / kept if self.rescale else mask)


class Stem(nn.Sequential):
    """Four 3x3 convolutions, of which the first and the last halve the size.

    What it gives is in channels-last memory order, as are all maps after it: the order
    in which 1x1 convolutions are products of matrices.

    Args:
        in_channels: of the image.
        channels: C.
        flavour: 'deepmind' or 'timm'.
    """

    def __init__(self, in_channels: int, channels: int, flavour: str):
        hidden = dict(flavour=flavour, activation="gelu")
        scaled = dict(flavour=flavour, input_scale=GELU_GAMMA)
        one, two, three = STEM_CHANNELS
        convs = (
            WSConv2d(in_channels, one, 3, 2, **hidden),
            WSConv2d(one, two, 3, **hidden, input_scale=GELU_GAMMA),
            WSConv2d(two, three, 3, **hidden, input_scale=GELU_GAMMA),
            WSConv2d(three, channels, 3, 2, **scaled),
        )
        # Named as with an activation after each.
        super().__init__(
            OrderedDict((str(2 * i), conv) for i, conv in enumerate(convs))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, C, ceil(H / 4), ceil(W / 4))."""
        return super().forward(x.contiguous(memory_format=torch.channels_last))


@MODELS.register_module()
class NFNet(StagedBackbone):
    """Normalizer-free network with levels at strides 4, 8, 16 and 32.

    A level is what its stage's last block gives, before any activation; its variance
    grows by ``0.04`` a block where the branches are of full strength.

    Args:
        arch: 'F0' to 'F7', 'F0+' to 'F7+', or a dict with ``channels`` (4 numbers),
            ``depths`` (blocks a stage, 4 numbers) and, optionally, ``group_width``
            (channels of a group of the 3x3 convolutions, 128; at most half of the
            channels).
        flavour: 'deepmind': GELU by tanh, variances of kernels floored at 1e-4,
            stochastic depth from 0 to ``drop_path_rate * (n - 1) / n`` without
            rescaling. 'timm': exact GELU, 1e-5 added to the variances, stochastic depth
            to `drop_path_rate` with rescaling.
        in_channels: channels of the image.
        drop_path_rate: largest stochastic depth rate; the paper's is 0.25.
        skip_gain_init_value: initial factor of the branches; 0 starts as the identity.
        out_indices: levels to return.
        out_norm: 'layer_norm' normalises every returned level; None as in the paper.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the first n
            stages.
        memory: 'store', 'recompute' or 'reverse', one of these a stage, or 'auto', see
            `StagedBackbone`.
        memory_budget_mb: of memory='auto', see `Backbone`.
        with_cp: True is ``memory='recompute'``.
        coupling: None, 'dual' or 'two-stream', see `StagedBackbone`.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``; timm's dm_nfnet_* files
            load as they are.

    Raises:
        ValueError: on a setting that does not exist.
    """

    couplings = ("dual", "two-stream")

    def __init__(
        self,
        arch: str | dict = "F0",
        flavour: str = "deepmind",
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        skip_gain_init_value: float = 0.0,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
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
            num_stages=len(settings["channels"]),
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            with_cp=with_cp,
            coupling=coupling,
            init_cfg=init_cfg,
        )
        if flavour not in FLAVOURS:
            raise ValueError(
                f"NFNet: flavour must be {' or '.join(FLAVOURS)}, got {flavour!r}."
            )
        self.flavour = flavour
        self.depths = list(settings["depths"])
        self.skip_gain_init_value = skip_gain_init_value

        width = self.embed_channels = self.channels[0] // 2
        self.stem = Stem(in_channels, width, flavour)
        if flavour == "deepmind":
            drop_path_rate *= 1 - 1 / sum(self.depths)
        stages, variance = [], 1.0
        for index, rates in enumerate(drop_path_rates(drop_path_rate, self.depths)):
            blocks = []
            for rate in rates:
                blocks.append(
                    NFBlock(
                        width,
                        self.channels[index],
                        stride=2 if index and not blocks else 1,
                        variance=variance,
                        group_width=settings["group_width"],
                        drop_path_rate=rate,
                        skip_gain_init_value=skip_gain_init_value,
                        flavour=flavour,
                    )
                )
                width = self.channels[index]
                # A stage's first block starts anew: its shortcut is normalised.
                variance = 1.0 + ALPHA**2 * self._branches_in(len(blocks))
            if coupling == "two-stream":
                # The mean of two streams has half of each branch.
                variance = 1.0 + ALPHA**2 * (1 + (len(blocks) - 1) / 4)
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self._finish()

    def _branches_in(self, blocks: int) -> int:
        """Branches whose sum is what follows so many blocks of a stage."""
        return 1 + blocks // 2 if self.coupling == "two-stream" else blocks

    def links(self, module: nn.Module) -> list[nn.Module]:
        """A block, but for one that changes the shape."""
        return [] if hasattr(module, "shortcut") else [module]

    @torch.no_grad()
    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                nn.init.zeros_(module.bias)
            if isinstance(module, WSConv2d):
                nn.init.ones_(module.gain)
            if isinstance(module, NFBlock):
                nn.init.constant_(module.skip_gain, self.skip_gain_init_value)


def _settings_of(arch: str | dict) -> dict:
    arch = resolve_arch(
        "NFNet", arch, ARCHITECTURES, ("channels", "depths"), ("group_width",)
    )
    arch = {"group_width": GROUP_WIDTH, **arch}
    for key in ("channels", "depths"):
        values = arch[key]
        if len(values) != 4 or min(values) < 1:
            raise ValueError(f"NFNet: arch {key} must be 4 numbers >= 1, got {values}.")
    if min(arch["channels"]) < 2 * arch["group_width"]:
        raise ValueError(
            "NFNet: arch channels must be at least twice group_width "
            f"({arch['group_width']}), got {arch['channels']}; set a smaller "
            "group_width."
        )
    return arch
