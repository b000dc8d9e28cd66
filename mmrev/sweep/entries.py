"""The cells of a sweep, and how they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mmrev.leaderboard.record import MeasuredRecord
from mmrev.sweep.cells import Cell
from mmrev.sweep.state import State, find_record, read_state, steps_left

__all__ = ["Entry", "left_of", "look"]

Status = Literal["waiting", "running", "done", "needless", "failed", "blocked"]


@dataclass
class Entry:
    """A cell in a sweep.

    Attributes:
        cell: Itself.
        status: 'needless' is a pretraining that nothing left to do starts from,
            'blocked' a cell that starts from one that failed.
        left: Its steps that are not done.
        job: Id of the job that runs.
        failures: How often it failed in this sweep.
        error: Last line of the last failure.
    """

    cell: Cell
    status: Status = "waiting"
    left: Sequence[str] = ()
    job: str = ""
    failures: int = 0
    error: str = ""

    @property
    def state(self) -> State:
        """As its job left it last."""
        return read_state(self.cell.folder) or State()

    @property
    def record(self) -> MeasuredRecord | None:
        """What its test left."""
        weights = self.state.weights
        if weights is None or not self.cell.tested:
            return None
        return find_record(self.cell.folder, self.cell.config_sha256, weights)


def look(cells: Sequence[Cell]) -> list[Entry]:
    """What is left of cells, each of which stands behind what it starts from."""
    entries = {cell.folder: Entry(cell) for cell in cells}
    for entry in entries.values():
        entry.left = left_of(entry.cell)
    for entry in reversed(entries.values()):
        if not entry.left:
            entry.status = "done"
        elif not entry.cell.tested and not any(
            other.status == "waiting" and "train" in other.left
            for other in entries.values()
            if other.cell.start is entry.cell
        ):
            entry.status = "needless"
    return list(entries.values())


def left_of(cell: Cell) -> list[str]:
    """The steps of a cell that are not done."""
    start = None
    if cell.start is not None:
        state = read_state(cell.start.folder)
        start = state.weights.sha256 if state and state.weights else None
    steps = ["train", "test"] if cell.tested else ["train"]
    return steps_left(cell.folder, steps, cell.config_sha256, start)
