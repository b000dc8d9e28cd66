"""What a terminal shows of a sweep: a live table; elsewhere a line for each event."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmrev.console import show
from mmrev.leaderboard.groups import Group
from mmrev.leaderboard.record import main_metric
from mmrev.leaderboard.table import figures
from mmrev.sweep.entries import Entry
from mmrev.sweep.job import tail_of

__all__ = ["View", "runs_table"]

# As mmengine logs it: "Epoch(train) [2][ 25/250]  lr: ...  eta: 0:05:13  time: ...".
_PROGRESS = re.compile(r"(?:Epoch|Iter)\((\w+)\)\s+((?:\[[^\]]*\]\s*)+)")
_ETA = re.compile(r"eta: ((?:\d+ days?, )?[\d:]+)")
_STYLES = {
    "waiting": "dim",
    "needless": "dim",
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "blocked": "yellow",
}
# Where not all fit: what is shown first.
_FIRST = ("running", "failed", "blocked", "waiting", "done", "needless")
_AROUND = 6  # lines that are no cells


class View:
    """Shows a sweep.

    Args:
        title: Its name.
        entries: Its cells, in their order.
    """

    def __init__(self, title: str, entries: Sequence[Entry]) -> None:
        self._title = title
        self._entries = entries
        self._results: dict[int, str] = {}
        self._start = time.monotonic()
        self._console = Console()
        self._live = (
            Live(console=self._console, auto_refresh=False)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> "View":
        if self._live:
            self._live.start()
        self.update()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.update()
        if self._live:
            self._live.stop()

    def update(self) -> None:
        """Draw the table anew."""
        if self._live:
            self._live.update(self.table(self._console.height - _AROUND), refresh=True)

    def say(self, entry: Entry, event: str, urgent: bool = False) -> None:
        """Tell what happened to a cell; beside a table only what is urgent."""
        if urgent or not self._live:
            self.tell(f"{entry.cell.name}: {event}")

    def tell(self, line: str) -> None:
        """Print a line with the time, above the table if there is one."""
        self._console.print(Text(f"{time.strftime('%H:%M:%S')} {line}"), soft_wrap=True)

    def result(self, entry: Entry) -> str:
        """The main metric of a cell that is tested; empty without one."""
        if entry.status != "done":
            return ""
        if id(entry) not in self._results:
            record = entry.record
            text = ""
            if record is not None:
                name = main_metric(record)
                value = record.metrics[name]
                text = f"{name} {'-' if value is None else f'{value:.4g}'}"
            self._results[id(entry)] = text
        return self._results[id(entry)]

    def table(self, most: int | None = None) -> Table:
        """The cells.

        Args:
            most: Rows; of more cells, those that matter now are shown.
        """
        entries, hidden = self._chosen(most)
        table = Table(
            **dict(box=box.HORIZONTALS, pad_edge=False, show_edge=False),
            **dict(title=Text(self.summary()), title_justify="left"),
            **dict(caption=hidden or None, caption_justify="left"),
        )
        table.add_column("model", overflow="fold")
        table.add_column("seed", justify="right")
        table.add_column("state", no_wrap=True)
        table.add_column("progress", no_wrap=True, overflow="ellipsis")
        table.add_column("time", justify="right", no_wrap=True)
        table.add_column("result", overflow="fold")
        for entry in entries:
            table.add_row(*self._row(entry))
        return table

    def summary(self) -> str:
        """How many cells have come how far."""
        counts = Counter(entry.status for entry in self._entries)
        told = ", ".join(
            f"{counts[status]} {status}" for status in _FIRST if counts[status]
        )
        took = _clock(time.monotonic() - self._start)
        return f"{self._title}: {len(self._entries)} cells, {told}; {took}"

    def conclude(self) -> None:
        """Say how it ended, with the last line of what failed."""
        print(self.summary(), flush=True)
        failed = [one for one in self._entries if one.status in ("failed", "blocked")]
        if not failed:
            return
        table = Table("cell", "state", "last line, and log", box=box.HORIZONTALS)
        for entry in failed:
            log = entry.cell.folder / f"{entry.state.step or 'train'}.log"
            told = f"{entry.error}\n{log}" if entry.status == "failed" else entry.error
            table.add_row(*map(Text, (entry.cell.name, entry.status, told)))
        show(table)

    def _chosen(self, most: int | None) -> tuple[list[Entry], str]:
        entries = list(self._entries)
        if most is None or len(entries) <= most:
            return entries, ""
        ranked = sorted(entries, key=lambda entry: _FIRST.index(entry.status))
        shown = {id(entry) for entry in ranked[:most]}
        counts = Counter(e.status for e in entries if id(e) not in shown)
        told = ", ".join(f"{number} {status}" for status, number in counts.items())
        return [e for e in entries if id(e) in shown], f"and {told}"

    def _row(self, entry: Entry) -> list[Text]:
        state = entry.state
        status, progress, result = entry.status, "", self.result(entry)
        if status == "running":
            started = state.outcome == "running" and state.step
            status = state.step if started else "queued"
            progress = _progress(entry) if started else ""
        elif status in ("failed", "blocked"):
            result = entry.error
        if status == "waiting" and entry.failures:
            status = "to retry"
        seconds = sum(state.seconds.values())
        cells = (
            entry.cell.model,
            str(entry.cell.seed),
            status,
            progress,
            _clock(seconds) if seconds else "",
            result,
        )
        return [Text(cell, style=_STYLES[entry.status]) for cell in cells]


def runs_table(entries: Sequence[Entry]) -> Table | None:
    """What each run of a config came to; None where every config has one.

    The leaderboard names its rows by configs, which differ in their options here.

    Args:
        entries: Of a sweep. A cell that is not done counts as not run.
    """
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.cell.tested:
            found.setdefault((entry.cell.model, entry.cell.run), []).append(entry)
    if len({model for model, _ in found}) == len(found):
        return None
    table = Table("config", "run", "seeds", "result", box=box.HORIZONTALS)
    for (model, run), cells in sorted(found.items()):
        records = [one for one in (entry.record for entry in cells) if one is not None]
        result = figures(Group(tuple(records))) if records else "not run"
        done = f"{len(records)} of {len(cells)}"
        table.add_row(*map(Text, (model, run, done, result)))
    return table


def _progress(entry: Entry) -> str:
    """How far the step that runs has come, as its log tells."""
    for line in reversed(tail_of(entry.cell.folder / f"{entry.state.step}.log")):
        if found := _PROGRESS.search(line):
            eta = _ETA.search(line)
            place = re.sub(r"\s+", "", found[2])
            kind = "" if found[1] == entry.state.step else f"{found[1]} "
            return f"{kind}{place}{f' {eta[1]} left' if eta else ''}"
    return ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
