"""RevCol as its authors compute it, beside which ours is timed.

Reference: megvii-research/RevCol @1680848, Apache-2.0 (models/revcol.py,
models/modules.py). Its arithmetic, written anew: maps are (N, C, H, W) and permuted for
linear layers; norms over channels of such maps are written out; residuals, layer scale
and gains are operations of their own. Parameters have our names.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrev.models.backbones import RevCol

__all__ = ["PlainRevCol"]

EPSILON = 1e-6
LEAST_GAIN = 1e-3
STRIDE = 32  # of the last level


class _Norm(nn.LayerNorm):
    """LayerNorm over C of an (N, C, H, W) map, from its mean and variance."""

    def __init__(self, channels: int):
        super().__init__(channels, eps=EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class _Block(nn.Module):
    def __init__(self, channels: int, kernel_size: int):
        super().__init__()
        self.dwconv = nn.Conv2d(
            channels, channels, kernel_size, padding=kernel_size // 2, groups=channels
        )
        self.norm = nn.LayerNorm(channels, eps=EPSILON)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        branch = self.pwconv2(self.act(self.pwconv1(branch)))
        return x + (self.gamma * branch).permute(0, 3, 1, 2)


class _Level(nn.Module):
    def __init__(
        self,
        index: int,
        channels: Sequence[int],
        sources: Sequence[int],
        depth: int,
        kernel_size: int,
    ):
        super().__init__()
        width = channels[index]
        if index:
            down = nn.Conv2d(channels[index - 1], width, kernel_size=2, stride=2)
            self.down = nn.Sequential(down, _Norm(width))
        self.ups = nn.ModuleList(
            nn.Sequential(
                nn.Linear(channels[source], width), nn.LayerNorm(width, eps=EPSILON)
            )
            for source in sources
        )
        self.scales = [2 ** (source - index) for source in sources]
        blocks = [_Block(width, kernel_size) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, below: Tensor, *above: Tensor) -> Tensor:
        x = self.down(below) if hasattr(self, "down") else below
        for up, scale, source in zip(self.ups, self.scales, above, strict=True):
            coarse = up(source.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            x = F.interpolate(coarse, scale_factor=scale, mode="nearest") + x
        return self.blocks(x)


class _Column(nn.Module):
    def __init__(
        self,
        channels: Sequence[int],
        depths: Sequence[int],
        above: Sequence[Sequence[int]],
        kernel_size: int,
    ):
        super().__init__()
        self.above = above
        self.levels = nn.ModuleList(
            _Level(index, channels, sources, depth, kernel_size)
            for index, (sources, depth) in enumerate(zip(above, depths, strict=True))
        )
        self.gains = nn.ParameterList(torch.ones(1, width, 1, 1) for width in channels)

    def forward(self, x: Tensor, previous: Sequence[Tensor | int]) -> list[Tensor]:
        for gain in self.gains:
            values, signs = gain.data, gain.data.sign()
            values.abs_().clamp_(min=LEAST_GAIN).mul_(signs)
        states = []
        for level, gain, old, sources in zip(
            self.levels, self.gains, previous, self.above, strict=True
        ):
            update = level(x, *(previous[source] for source in sources))
            x = gain * old + update
            states.append(x)
        return states


class PlainRevCol(nn.Module):
    """The network of a `RevCol`, with a copy of its weights.

    Args:
        model: whose network it is.

    Raises:
        ValueError: if it is no RevCol, or one with stochastic depth, which leaves out
            in ours what would run here.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        if not isinstance(model, RevCol):
            raise ValueError(
                "plain: expected RevCol, whose reference it transcribes, got "
                f"{type(model).__name__}. Take timm:NAME, mmpretrain:NAME or own."
            )
        if any(getattr(module, "drop_prob", 0.0) for module in model.modules()):
            raise ValueError(
                "plain: expected drop_path_rate=0, got more: it has no stochastic "
                "depth. Set it by --cfg-options."
            )
        stem, channels = model.stem[0], model.channels
        kernel_size = model.columns[0].levels[0].blocks[0].dwconv.kernel_size[0]
        self.out_indices = model.out_indices
        self.stem = nn.Sequential(
            nn.Conv2d(stem.in_channels, channels[0], stem.kernel_size, stem.stride),
            _Norm(channels[0]),
        )
        self.columns = nn.ModuleList(
            _Column(channels, model.depths, column.above, kernel_size)
            for column in model.columns
        )
        named = {
            str(index): _Norm(channels[index])
            for index in model.out_indices
            if model.norm(index)
        }
        self.norms = nn.ModuleDict(named)
        self.load_state_dict(model.state_dict())

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images, (N, C, H, W), to the levels that the model returns.

        Raises:
            ValueError: if a side is no multiple of 32, which the reference needs.
        """
        if any(side % STRIDE for side in x.shape[-2:]):
            height, width = x.shape[-2:]
            raise ValueError(
                f"expected sides that are multiples of {STRIDE}, as the reference "
                f"needs, got {height}x{width}."
            )
        x = self.stem(x)
        states: list[Tensor | int] = [0] * len(self.columns[0].levels)
        for column in self.columns:
            states = column(x, states)
        return tuple(
            self.norms[str(index)](states[index])
            if str(index) in self.norms
            else states[index]
            for index in self.out_indices
        )
