"""RevCol: reversible columns.

Paper: Reversible Column Networks, arXiv 2212.11696.
Reference: megvii-research/RevCol @1680848, Apache-2.0 (models/revcol.py,
models/revcol_huge.py). Written anew; same parameters and values.
Deviations: the gain floor is applied in forward, never to the stored parameter, and a
gain of exactly 0 counts as positive; any input size (maps are padded at the right and
bottom where a stride does not divide them); the first column's gains, which nothing
reads, are frozen; the stem's bias starts at random instead of 0.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
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
    check_sizes,
    pad_to_multiple,
)
from mmrev.models.layers.conv import Conv2d
from mmrev.registry import MODELS
from mmrev.reversible import in_modes, run_columns

STEM_STRIDE = 4
SIZES = ("channels", "depths", "num_columns")


def _arch(width: int, depths: list[int], num_columns: int, top_to_bottom=False) -> dict:
    return {
        "channels": [width * 2**index for index in range(NUM_LEVELS)],
        "depths": depths,
        "num_columns": num_columns,
        "top_to_bottom": top_to_bottom,
    }


ARCHITECTURES = {
    "tiny": _arch(64, [2, 2, 4, 2], 4),
    "small": _arch(64, [2, 2, 4, 2], 8),
    "base": _arch(72, [1, 1, 3, 2], 16),
    "large": _arch(128, [1, 2, 6, 2], 8),
    "xlarge": _arch(224, [1, 2, 6, 2], 8),
    "huge": _arch(360, [1, 2, 6, 2], 8, top_to_bottom=True),
}


@MODELS.register_module()
class RevCol(Backbone):
    """Reversible column network with levels at strides 4, 8, 16 and 32.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'xlarge', 'huge', or a dict with
            ``channels`` (4 numbers), ``depths`` (blocks a level, 4 numbers),
            ``num_columns`` and, optionally, ``top_to_bottom`` (level 0 also reads the
            previous column's level 3, as in 'huge').
        in_channels: channels of the image.
        kernel_size: of the depthwise convolutions, odd. Weights of a smaller kernel
            are padded with zeros on loading.
        drop_path_rate: largest stochastic depth rate, the same in every column.
        layer_scale_init_value: initial layer scale of the blocks.
        out_indices: levels to return.
        out_norm: 'layer_norm' normalises every returned level; None as in the paper.
        frozen_stages: -1 trains everything, 0 freezes the stem, n also the first n
            columns.
        memory: 'store', 'recompute' or 'reverse', see `mmrev.reversible.in_mode`, one
            of these a level, or 'auto'.
        memory_budget_mb: of memory='auto', see `Backbone`.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)``; the official files load
            as they are.

    Raises:
        ValueError: on a setting that does not exist.
    """

    no_weight_decay = ("gains.",)

    def __init__(
        self,
        arch: str | dict = "tiny",
        in_channels: int = 3,
        kernel_size: int = 3,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: str | None = None,
        frozen_stages: int = -1,
        memory: str | Sequence[str] = "recompute",
        memory_budget_mb: float | None = None,
        init_cfg: dict | None = None,
    ):
        settings = _settings_of(arch)
        super().__init__(
            channels=settings["channels"],
            out_indices=out_indices,
            out_norm=out_norm,
            frozen_stages=frozen_stages,
            num_stages=settings["num_columns"],
            memory=memory,
            memory_budget_mb=memory_budget_mb,
            init_cfg=init_cfg,
        )
        self.depths = list(settings["depths"])
        self.num_columns = settings["num_columns"]
        if kernel_size % 2 == 0:
            raise ValueError(f"RevCol: kernel_size must be odd, got {kernel_size}.")

        self.stem = nn.Sequential(
            Conv2d(in_channels, self.channels[0], STEM_STRIDE, STEM_STRIDE),
            LayerNorm2d(self.channels[0]),
        )
        top_to_bottom = settings["top_to_bottom"]
        above = [[1, 3] if top_to_bottom else [1], [2], [3], []]
        rates = drop_path_rates(drop_path_rate, self.depths)
        self.columns = nn.ModuleList(
            BottomUpColumn(
                self.channels,
                above if index else [[]] * NUM_LEVELS,
                rates,
                kernel_size=kernel_size,
                layer_scale_init_value=layer_scale_init_value,
            )
            for index in range(self.num_columns)
        )
        self._taps: dict[int, Tensor | None] = {}
        self._freeze()

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """Run the columns; all of them read x."""
        frozen = max(self.frozen_stages, 0)
        states, tapped = None, {}
        if frozen:
            with torch.no_grad():
                states, tapped = run_columns(self.columns[:frozen], x, taps=self._taps)
        if frozen < self.num_columns:
            states, found = self.run(
                self.columns[frozen:],
                x,
                states,
                taps=[i - frozen for i in self._taps if i >= frozen],
            )
            tapped |= {frozen + i: state for i, state in found.items()}
        self._taps.update(tapped)
        return self.select(states)

    def run(self, columns, x, previous=None, taps=()):
        """`run_columns` in this memory mode."""
        couples = in_modes(self.memory, columns[-1].above)
        return run_columns(columns, x, previous, taps, couples)

    def units(self) -> list[nn.Module]:
        """The levels of all columns."""
        return [level for column in self.columns for level in column.levels]

    def embed(self, x: Tensor) -> Tensor:
        """Images, (N, in_channels, H, W), to what every column reads, at stride 4."""
        return self.stem(pad_to_multiple(x, STEM_STRIDE))

    @contextmanager
    def tap(self, columns: Sequence[int]) -> Iterator[dict[int, Tensor]]:
        """Collect the coarsest state of some columns during a forward pass.

        Args:
            columns: indices of columns.

        Yields:
            A dict that each forward pass inside the context fills with
            (N, C[3], ceil(H / 32), ceil(W / 32)) by column.

        Raises:
            ValueError: on a column that does not exist.
        """
        for column in columns:
            if not 0 <= column < self.num_columns:
                raise ValueError(
                    f"RevCol: taps must lie in 0..{self.num_columns - 1}, got {column}."
                )
        self._taps = dict.fromkeys(columns)
        try:
            yield self._taps
        finally:
            self._taps = {}

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Layer id of a parameter, for layer-wise learning rate decay.

        Manhattan distance: block index in the column + column index + 1; the stem is 0.
        A fusion and a gain belong to their level's first block. The reference gives
        every gain level 0's id; here each has its own level's.

        Args:
            param_name: the parameter's full name.
            prefix: what precedes the backbone's own names, as 'backbone.'.

        Returns:
            The id, and the number of ids (the last one is the head's).
        """
        num_layers = sum(self.depths) + self.num_columns + 1
        parts = param_name.removeprefix(prefix).split(".")
        if not param_name.startswith(prefix) or parts[0] not in ("stem", "columns"):
            return num_layers - 1, num_layers
        if parts[0] == "stem":
            return 0, num_layers
        column, level = int(parts[1]), int(parts[3])
        block = int(parts[5]) if parts[4:5] == ["blocks"] else 0
        return sum(self.depths[:level]) + block + column + 1, num_layers

    def _init_weights(self) -> None:
        init_trunc_normal(self)
        # With all biases 0, the zeros that fill up a batch stay zeros through the whole
        # network, and every LayerNorm on the way multiplies their gradients by 1000.
        nn.init.trunc_normal_(self.stem[0].bias, std=0.02)

    def _frozen_modules(self) -> list[nn.Module]:
        frozen = [self.columns[0].gains]
        if self.frozen_stages >= 0:
            frozen += [self.stem, *self.columns[: self.frozen_stages]]
        return frozen

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        """Pad depthwise kernels that are smaller than this model's."""
        for name, parameter in self.named_parameters():
            key = f"{prefix}{name}"
            if not name.endswith("dwconv.weight") or key not in state_dict:
                continue
            missing = parameter.shape[-1] - state_dict[key].shape[-1]
            if missing > 0 and missing % 2 == 0:
                state_dict[key] = F.pad(state_dict[key], [missing // 2] * 4)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _settings_of(arch: str | dict) -> dict:
    arch = resolve_arch(
        "RevCol",
        arch,
        ARCHITECTURES,
        SIZES,
        ("top_to_bottom",),
    )
    check_sizes("RevCol", **{key: arch[key] for key in SIZES})
    return {"top_to_bottom": False, **arch}
