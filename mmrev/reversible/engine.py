"""The memory modes of a column network and the choice between them."""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from functools import partial

import torch
from torch import Tensor

from mmrev.reversible.column import Column, effective_gain, run_columns, run_level
from mmrev.reversible.recompute import recompute
from mmrev.reversible.replay import AutocastState
from mmrev.reversible.reverse import Segment

_logger = logging.getLogger(__name__)

MEMORY_MODES = ("store", "recompute", "reverse")

# Largest accepted relative error of a rebuilt state, by the dtype that levels compute
# in. Single precision: a rounding step of TF32. Half: four rounding steps of their own,
# at which gradients were as far from float64 as those of plain autograd.
ERROR_BOUNDS = {
    torch.float64: 1e-6,
    torch.float32: 1e-3,
    torch.float16: 4e-3,
    torch.bfloat16: 3.2e-2,
}
FIRST_CHECKS, CHECK_EVERY = 10, 100


class ColumnEngine:
    """Runs columns in one of `MEMORY_MODES`.

    ``'store'``: plain autograd, every activation kept.
    ``'recompute'``: exact; only the states of every column kept, each level run again
    in the backward pass.
    ``'reverse'``: only the last states and those of every ``anchor_every``-th column
    kept, the rest rebuilt by inversion. The error is measured in the first
    `FIRST_CHECKS` passes and every `CHECK_EVERY`-th one; past `ERROR_BOUNDS` the engine
    changes to ``'recompute'`` for good and reports it. Levels that magnify small
    errors, as LayerNorm over zero padding does, can still spoil gradients unseen.

    ``torch.compile`` traces every mode without a break: ``'store'`` keeps what the
    compiler chooses; ``'recompute'`` and ``'reverse'``, which it cannot invert, mark
    each level for torch's checkpointing. ``torch.export`` sees plain levels.

    Args:
        memory: the mode.
        anchor_every: columns between two kept states, or ``'auto'``: chosen from the
            gains and the dtype, so that the predicted error stays within its bound.
        report: takes one line on what was measured or changed.

    Raises:
        ValueError: on a mode or period that does not exist.
    """

    def __init__(
        self,
        memory: str = "recompute",
        anchor_every: int | str = "auto",
        report: Callable[[str], None] = _logger.warning,
    ):
        if memory not in MEMORY_MODES:
            raise ValueError(
                f"memory must be one of {', '.join(MEMORY_MODES)}, got {memory!r}."
            )
        if anchor_every != "auto" and not (
            isinstance(anchor_every, int) and anchor_every >= 1
        ):
            raise ValueError(
                "anchor_every must be 'auto' or a number of columns >= 1, "
                f"got {anchor_every!r}."
            )
        self.memory = memory
        self.anchor_every = anchor_every
        self.report = report
        self.passes = 0
        self.largest_error = 0.0
        self._period = 1
        self._bound = 0.0
        self._errors: list[Tensor] = []

    def __call__(
        self,
        columns: Sequence[Column],
        x: Tensor,
        previous: Sequence[Tensor] | None = None,
        taps: Collection[int] = (),
    ) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Run the columns; arguments and result as of `run_columns`."""
        if self.memory == "store" or not torch.is_grad_enabled():
            return run_columns(columns, x, previous, taps)
        if self.memory == "reverse" and not torch.compiler.is_compiling():
            self._judge()
            if self.memory == "reverse":
                return self._reverse(columns, x, previous, taps)
        step = partial(run_level, call=recompute)
        return run_columns(columns, x, previous, taps, step)

    def _reverse(self, columns, x, previous, taps):
        measure = self.passes < FIRST_CHECKS or self.passes % CHECK_EVERY == 0
        if measure:
            dtype = _compute_dtype(columns, x)
            self._bound = ERROR_BOUNDS[dtype]
            self._period = (
                choose_period(columns, dtype)
                if self.anchor_every == "auto"
                else self.anchor_every
            )
        self.passes += 1
        states, tapped = previous, {}
        for start in range(0, len(columns), self._period):
            part = columns[start : start + self._period]
            segment = Segment(part, self._errors if measure else None)
            states, found = segment(x, states, [i - start for i in taps])
            tapped |= {start + i: state for i, state in found.items()}
        return states, tapped

    def _judge(self) -> None:
        """Look at the errors that backward passes measured since the last call."""
        if not self._errors:
            return
        error = torch.stack(self._errors).max().item()
        self._errors.clear()
        if self.largest_error == 0.0:
            self.report(
                f"memory='reverse': states rebuilt within {error:.1e} "
                f"(bound {self._bound:.0e}), kept every {self._period} columns."
            )
        self.largest_error = max(self.largest_error, error)
        if not error <= self._bound:
            self.memory = "recompute"
            self.report(
                f"memory='reverse': a state was rebuilt with a relative error of "
                f"{error:.1e}, past the bound of {self._bound:.0e}; from here on "
                "memory='recompute', which is exact. A smaller anchor_every than "
                f"{self._period} would keep the error lower."
            )


def _compute_dtype(columns: Sequence[Column], x: Tensor) -> torch.dtype:
    autocast = AutocastState.current(x.device)
    return autocast.dtype if autocast.enabled else columns[0].gains[0].dtype


@torch.no_grad()
def choose_period(columns: Sequence[Column], dtype: torch.dtype) -> int:
    """The largest number of columns between kept states with a safe prediction.

    One inversion divides the error by the gain; through the coarser levels that each
    level reads, a column's error enters the next a second time. With g, the mean of
    ``1 / gain^2`` over the channels of the worst level, the prediction for k columns is
    ``8 eps g^(k - 1)``. In half precision the first inversion repeats the forward pass
    bit for bit, but later ones are off by a level's rounding: ``2.5 eps g^(k - 2)``.
    Fitted to RevCol with 2 to 16 columns and gains of .5, .7 and .9.

    Args:
        columns: the columns.
        dtype: what the levels compute in.

    Returns:
        Columns from one kept state to the next, 1 .. ``len(columns)``. A segment of k
        columns takes k - 1 inversions.
    """
    growth = max(
        effective_gain(gain).float().pow(-2).mean().item()
        for column in columns[1:] or columns
        for gain in column.gains
    )
    if growth <= 1:
        return len(columns)
    half = dtype in (torch.float16, torch.bfloat16)
    factor, free = (2.5, 2) if half else (8, 1)
    allowed = math.log(ERROR_BOUNDS[dtype] / (factor * torch.finfo(dtype).eps))
    return min(len(columns), free + int(allowed / math.log(growth)))
