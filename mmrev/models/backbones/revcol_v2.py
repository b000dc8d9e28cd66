"""RevColV2: reversible columns bottom-up, then top-down.

Paper: RevColV2: Exploring Disentangled Representations in Masked Image Modeling,
arXiv 2309.01005, NeurIPS 2023. Its authors released no code, and of its text only the
abstract and what others quote could be read; so this is one reading of it.
Stated there: bottom-up columns and symmetric top-down columns, between which features
are passed on reversibly; all of them are kept after pretraining (abstract). The former
have RevCol's design, the latter take what these give; raw patches are reconstructed
from the finest level of the last column; downstream tasks take levels of the top-down
columns, a classifier the coarsest (caption of figure 2). B has 88 M parameters, with
which it is compared in table 3.
Read into it: the blocks, fusions and gains of the top-down columns are RevCol's, too,
with finer and coarser exchanged: a level reads the coarser level of its own column and
the finer level of the column before, and the coarsest runs first. As many columns of
the same sizes run down as up. Every downstream task takes the last column. Widths,
depths and numbers of columns are ours, chosen so that B has its parameters (88.2 M); L,
of which no count could be read, has as many columns of twice the width (326.3 M).
Besides: images are padded at the right and bottom to whole cells of the coarsest level,
and levels are cut to size again; levels that none of `out_indices` reads are frozen.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from mmrev.models.backbones.base import (
    Backbone,
    drop_path_rates,
    init_trunc_normal,
    resolve_arch,
)
from mmrev.models.layers import (
    NUM_LEVELS,
    BottomUpColumn,
    LayerNorm2d,
    Level,
    check_sizes,
    make_gains,
    pad_to_multiple,
)
from mmrev.models.layers.conv import Conv2d
from mmrev.registry import MODELS
from mmrev.reversible import in_modes, run_columns

STEM_STRIDE, LAST_STRIDE = 4, 32
# Of the previous column, a level reads the one that runs next, in either direction.
ABOVE = [[1], [2], [3], []]
SIZES = ("channels", "depths", "num_columns")

Between = Callable[[list[Tensor]], list[Tensor]]


def _arch(width: int, depths: list[int], num_columns: int) -> dict:
    channels = [width * 2**index for index in range(NUM_LEVELS)]
    return dict(zip(SIZES, (channels, depths, num_columns), strict=True))


ARCHITECTURES = {
    "base": _arch(64, [1, 1, 4, 2], 6),
    "large": _arch(128, [1, 1, 3, 2], 6),
}


class TopDownLevel(Level):
    """A level of a top-down column; settings and parts are those of `Level`."""

    def forward(self, *reads: Tensor) -> Tensor:
        """Compute the level's update.

        Args:
            *reads: the coarser state of its own column, (N, C[l+1], H / 2, W / 2), but
                at the coarsest level; then the finer one of the previous column,
                (N, C[l-1], 2H, 2W), but at the finest.

        Returns:
            (N, C[l], H, W).
        """
        coarser, finer = reads[: len(self.ups)], reads[len(self.ups) :]
        first, *second = [*self.enlarged(coarser), *(self.down(x) for x in finer)]
        return self.blocks(sum(second, first))


class TopDownColumn(nn.Module):
    """A column from the coarsest level to the finest; see `mmrev.reversible.Column`.

    Args:
        channels: channels of the levels, finest first.
        drop_path_rates: for each level in the order in which they run, one a block.
        **block_settings: of `ConvNeXtBlock`.
    """

    above = ABOVE

    def __init__(
        self,
        channels: Sequence[int],
        drop_path_rates: Sequence[Sequence[float]],
        **block_settings,
    ):
        super().__init__()
        coarsest = NUM_LEVELS - 1
        self.levels = nn.ModuleList(
            TopDownLevel(
                index,
                channels,
                [] if index == coarsest else [index + 1],
                rates,
                **block_settings,
            )
            for index, rates in zip(
                reversed(range(NUM_LEVELS)), drop_path_rates, strict=True
            )
        )
        self.gains = make_gains(channels[::-1])


@MODELS.register_module()
class RevColV2(Backbone):
    """Reversible columns up and down, with levels at strides 4, 8, 16 and 32.

    `bottom_up` and `top_down` are its columns; those of the latter have their levels
    coarsest first.

    Args:
        arch: 'base', 'large', or a dict with ``channels`` (4 numbers), ``depths``
            (blocks a level, 4 numbers) and ``num_columns`` (in each direction).
        in_channels: channels of the image.
        drop_path_rate: largest stochastic depth rate, the same in every column; it
            grows in the order in which the levels run.
        layer_scale_init_value: initial layer scale of the blocks.
        out_indices: levels to return, of the last top-down column.
        out_norm: 'layer_norm' normalises every returned level; None does not.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the first n
            columns, those bottom-up first.
        memory: 'store', 'recompute' or 'reverse', see `mmrev.reversible.in_mode`, one
            of these a level, or 'auto'.
        memory_budget_mb: of memory='auto', see `Backbone`.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``.

    Raises:
        ValueError: on a setting that does not exist.
    """

    no_weight_decay = ("gains.",)

    def __init__(
        self,
        arch: str | dict = "base",
        in_channels: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
        memory: str | Sequence[str] = "recompute",
        memory_budget_mb: float | None = None,
        init_cfg: dict | None = None,
    ):
        settings = resolve_arch("RevColV2", arch, ARCHITECTURES, SIZES)
        check_sizes("RevColV2", **settings)
        super().__init__(
            channels=settings["channels"],
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            num_stages=2 * settings["num_columns"],
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            init_cfg=init_cfg,
        )
        self.depths = list(settings["depths"])
        self.num_columns = settings["num_columns"]
        self.stem = nn.Sequential(
            Conv2d(in_channels, self.channels[0], STEM_STRIDE, STEM_STRIDE),
            LayerNorm2d(self.channels[0]),
        )
        scale = {"layer_scale_init_value": layer_scale_init_value}
        rates = drop_path_rates(drop_path_rate, self.depths)
        self.bottom_up = nn.ModuleList(
            BottomUpColumn(
                self.channels, ABOVE if index else [[]] * NUM_LEVELS, rates, **scale
            )
            for index in range(self.num_columns)
        )
        rates = drop_path_rates(drop_path_rate, self.depths[::-1])
        self.top_down = nn.ModuleList(
            TopDownColumn(self.channels, rates, **scale)
            for _ in range(self.num_columns)
        )
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """As `Backbone`; the levels are cut to the image's size."""
        levels = super().forward(x)
        strides = [STEM_STRIDE << index for index in self.out_indices]
        sizes = [[-(-side // stride) for side in x.shape[-2:]] for stride in strides]
        return tuple(
            level[..., :height, :width]
            for level, (height, width) in zip(levels, sizes, strict=True)
        )

    def embed(self, x: Tensor) -> Tensor:
        """As `Backbone`, but of whole cells of the coarsest level."""
        return self.stem(pad_to_multiple(x, LAST_STRIDE))

    def encode(self, x: Tensor, between: Between | None = None) -> tuple[Tensor, ...]:
        """Run the columns.

        Args:
            x: what `embed` gives.
            between: what the top-down columns take, from what the bottom-up ones give;
                as it is by default.

        Returns:
            The levels of `out_indices`, of whole cells of the coarsest.
        """
        frozen = max(self.frozen_stages, 0)
        with torch.no_grad():
            states = self._run(x, None, 0, frozen, between)
        states = self._run(x, states, frozen, 2 * self.num_columns, between)
        return self.select(states)

    def _run(
        self,
        x: Tensor,
        states: list[Tensor] | None,
        start: int,
        stop: int,
        between: Between | None,
    ) -> list[Tensor] | None:
        """Run columns `start` to `stop` in this memory mode, on states finest first."""
        # One for both directions: the last state up is rebuilt from the first down.
        ways = in_modes(self.memory, ABOVE)
        up = self.bottom_up[start:stop]
        if len(up):
            states, _ = run_columns(up, x, states, couples=ways)
        first, last = (max(i - self.num_columns, 0) for i in (start, stop))
        if first < last:
            if between and start <= self.num_columns:
                states = between(states)
            back = ways if callable(ways) else ways[::-1]
            down = self.top_down[first:last]
            states, _ = run_columns(down, None, states[::-1], couples=back)
            states.reverse()
        return states

    def units(self) -> list[nn.Module]:
        """The levels of all columns."""
        columns = [*self.bottom_up, *self.top_down]
        return [level for column in columns for level in column.levels]

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, for layer-wise learning rate decay.

        As of `RevCol`: block index in the column, in the order in which blocks run, +
        column index + 1; the stem is 0. Top-down columns count on from the largest.

        Args:
            param_name: the parameter's full name.
            prefix: what precedes the backbone's own names, as 'backbone.'.

        Returns:
            The id, and the number of ids (the last one is the head's).
        """
        largest = sum(self.depths) + self.num_columns - 1
        num_layers = 2 * largest + 2
        part, *rest = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or part not in (
            "stem",
            "bottom_up",
            "top_down",
        ):
            return num_layers - 1, num_layers
        if part == "stem":
            return 0, num_layers
        column, level = int(rest[0]), int(rest[2])
        block = int(rest[4]) if rest[3:4] == ["blocks"] else 0
        down = part == "top_down"
        depths = self.depths[::-1] if down else self.depths
        depth = sum(depths[:level]) + block + column + 1
        return depth + down * largest, num_layers

    def _init_weights(self) -> None:
        init_trunc_normal(self)
        # As RevCol's: what fills up a batch must not stay 0 up to every LayerNorm.
        nn.init.trunc_normal_(self.stem[0].bias, std=0.02)

    def _frozen_modules(self) -> list[nn.Module]:
        frozen = [self.bottom_up[0].gains, *self._unread()]
        if self.frozen_stages >= 0:
            columns = [*self.bottom_up, *self.top_down]
            frozen += [self.stem, *columns[: self.frozen_stages]]
        return frozen

    def _unread(self) -> list[nn.Module]:
        """Levels that none of `out_indices` reads: of the last columns, the finest."""
        unread = []
        for distance, column in enumerate(reversed(self.top_down)):
            # A level reads the next finer one of the column before.
            count = max(min(self.out_indices) - distance, 0)
            start = NUM_LEVELS - count
            unread += [*column.levels[start:], column.gains[start:]]
        return unread
