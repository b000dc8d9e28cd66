"""What a run has found so far: a JSON file, and tables for people."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmrev.atomic import write_bytes

PASSED, FAILED, MEASURED = "passed", "failed", "measured"
NOT_RUN, CUT_SHORT, RUNNING = "not run", "cut short", "running"
NEEDS_GPU = "needs a GPU"

LOST = 3
"""Exit status of a process that can use its device no more, and has recorded it."""


@dataclass
class Report:
    """A run's facts and checks; whoever changes one saves it.

    Attributes:
        folder: where the two files go.
        facts: of the run: date, device, versions and what else is known.
        checks: a dict each, in the order of the plan: ``name``, ``group``, ``status``,
            ``seconds``, ``message``, ``rows``.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    checks: list[dict] = field(default_factory=list)

    @property
    def json_path(self) -> Path:
        """For programs."""
        return self.folder / "gpu_check.json"

    @property
    def markdown_path(self) -> Path:
        """For people."""
        return self.folder / "gpu_check.md"

    @classmethod
    def of_run(cls, folder: str | Path, began: float, minutes: float = 8.0) -> "Report":
        """What a run has written so far; a new one where it has written nothing.

        Args:
            folder: where it writes, and another run may have written.
            began: when it began, seconds of the epoch: by this it is known.
            minutes: what it may take.
        """
        report = cls(Path(folder), {"began": began, "minutes": minutes})
        if report.json_path.exists():
            content = json.loads(report.json_path.read_text())
            if content.get("began") == began:
                report.checks = content.pop("checks")
                report.facts = content
        return report

    def save(self) -> None:
        """Write both files, each as a whole."""
        self.save_json()
        write_bytes(self.markdown_path, self.markdown().encode())

    def save_json(self) -> None:
        """Write what is enough to lose nothing."""
        content = json.dumps(_plain({**self.facts, "checks": self.checks}), indent=1)
        write_bytes(self.json_path, f"{content}\n".encode())

    def find(self, name: str) -> dict | None:
        """A check by its name."""
        return next((check for check in self.checks if check["name"] == name), None)

    @property
    def failures(self) -> list[str]:
        """Names of the checks that failed, of whatever group."""
        return [c["name"] for c in self.checks if c["status"] == FAILED]

    @property
    def is_wrong(self) -> bool:
        """Whether a check of correctness failed."""
        return any(
            check["status"] == FAILED and check["group"] == "correctness"
            for check in self.checks
        )

    def summary(self) -> str:
        """One line: how many checks ended how."""
        counts: dict[str, int] = {}
        for check in self.checks:
            counts[check["status"]] = counts.get(check["status"], 0) + 1
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    def markdown(self) -> str:
        """The tables."""
        facts = self.facts
        lines = [
            f"# Check on {facts.get('device', 'an unknown device')}",
            "",
            f"{facts.get('date', '')}, size {facts.get('size', '?')}, "
            f"{facts.get('minutes', '?')} minutes at most. {self.summary()}.",
            "",
        ]
        lines += _facts_table(facts)
        groups = dict.fromkeys(check["group"] for check in self.checks)
        for group in groups:
            own = [check for check in self.checks if check["group"] == group]
            lines += [f"## {group.capitalize()}", ""]
            overview = [
                {key: check[key] for key in ("name", "status", "seconds", "message")}
                for check in own
            ]
            lines += _table(overview)
            for check in own:
                if check["rows"]:
                    lines += [f"### {check['name']}", "", *_table(check["rows"])]
        return "\n".join(lines).rstrip() + "\n"


def one_line(row: Mapping[str, Any]) -> str:
    """A row as text, for the terminal."""
    rest = [f"{key} {_shown(value)}" for key, value in row.items() if key != "what"]
    return "; ".join([str(row.get("what", "")), *rest])


def last_line(error: BaseException) -> str:
    """An error's kind and the last line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def today() -> str:
    """Date and time, UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def _facts_table(facts: Mapping[str, Any]) -> list[str]:
    rows = []
    for key, value in facts.items():
        if isinstance(value, Mapping):
            value = ", ".join(f"{name} {text}" for name, text in value.items())
        if key not in ("began", "date", "size", "minutes", "device", "until"):
            rows.append({"": key, "value": value})
    return _table(rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return []
    head = [f"| {' | '.join(columns)} |", f"|{'-|' * len(columns)}"]
    cells = [[_shown(row.get(column, "")) for column in columns] for row in rows]
    return [*head, *(f"| {' | '.join(line)} |" for line in cells), ""]


def _shown(value: object) -> str:
    if isinstance(value, float):
        value = f"{value:.3g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """JSON knows no infinity and no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
