"""What a cell has come to: a file in its folder, and whether the results still fit it.

Written by the cell's job alone, whole or not at all; so a sweep may be killed anywhere,
and the next one reads what is left to do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mmrev.atomic import write_bytes
from mmrev.hashes import file_sha256
from mmrev.leaderboard.record import MeasuredRecord
from mmrev.leaderboard.store import load_records

__all__ = [
    "Outcome",
    "State",
    "Weights",
    "find_record",
    "read_state",
    "steps_left",
    "write_state",
]

Outcome = Literal["running", "done", "again", "failed"]
_NAME = "cell.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Weights(_Part):
    """A checkpoint, as it was when it was hashed.

    Attributes:
        path: Of the file.
        sha256: Of its content.
        size: Bytes.
        mtime_ns: When it was written last. With the same size and time, it is not read
            again.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Weights":
        """Hash a file.

        Raises:
            OSError: It cannot be read.
        """
        stat = path.stat()
        return cls(
            path=str(path),
            sha256=file_sha256(path),
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
        )

    def is_there(self) -> bool:
        """Whether the file still holds this."""
        path = Path(self.path)
        try:
            stat = path.stat()
            same = (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)
            return same or file_sha256(path) == self.sha256
        except OSError:
            return False


class State(_Part):
    """Of one cell.

    Attributes:
        outcome: Of the last job.
        job: Its id.
        step: What runs or ran last, train or test.
        weights: The last checkpoint, when the training is over.
        start_sha256: Of the weights of the cell that it starts from.
        starts: How often each step was started.
        seconds: That each step took, over all its starts.
        error: Last line of what failed.
    """

    outcome: Outcome = "running"
    job: str = ""
    step: str = ""
    weights: Weights | None = None
    start_sha256: str | None = None
    starts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    error: str = ""


def read_state(folder: Path) -> State | None:
    """The state of a cell; None if it has none, or one of another form."""
    try:
        return State.model_validate_json((folder / _NAME).read_bytes())
    except (OSError, ValidationError):
        return None


def write_state(folder: Path, state: State) -> None:
    """Keep the state of a cell."""
    write_bytes(folder / _NAME, state.model_dump_json(indent=2).encode())


def steps_left(
    folder: Path, steps: Sequence[str], config_sha256: str, start_sha256: str | None
) -> list[str]:
    """What of a cell is not done, or was done from other weights.

    Args:
        folder: Of the cell.
        steps: Train, and test if it is tested.
        config_sha256: As of `find_record`.
        start_sha256: Of the weights of the cell that it starts from.
    """
    state = read_state(folder)
    if (
        state is None
        or state.weights is None
        or state.start_sha256 != start_sha256
        or not state.weights.is_there()
    ):
        return list(steps)
    if "test" in steps and find_record(folder, config_sha256, state.weights) is None:
        return ["test"]
    return []


def find_record(
    folder: Path, config_sha256: str, weights: Weights
) -> MeasuredRecord | None:
    """The newest record of a cell that is of this config and these weights."""
    records, _ = load_records([folder / "records"])
    found = [
        record
        for record in records.values()
        if isinstance(record, MeasuredRecord)
        and record.config.sha256 == config_sha256
        and record.checkpoint.sha256 == weights.sha256
    ]
    return found[-1] if found else None
