"""Records of what was measured or published, and the tables made of them."""

from mmrev.leaderboard.record import (
    MeasuredRecord,
    PublishedRecord,
    Record,
    main_metric,
)
from mmrev.leaderboard.store import load_records, save_record
from mmrev.leaderboard.table import markdown, terminal

__all__ = [
    "MeasuredRecord",
    "PublishedRecord",
    "Record",
    "load_records",
    "main_metric",
    "markdown",
    "save_record",
    "terminal",
]
