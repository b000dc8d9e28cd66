"""The report of ``tools/check_data.py`` as text."""

from collections.abc import Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmrev.browse.findings import KINDS, Findings, Split, summary
from mmrev.text import printable

__all__ = ["data_text"]

_WIDTH = 100


def data_text(name: str, splits: Sequence[Split], findings: Findings) -> str:
    """What was found, for a terminal or a file.

    Args:
        name: of the config.
        splits: what they hold.
        findings: what is to be said about it.
    """
    file = StringIO()
    console = Console(file=file, width=_WIDTH)
    table = _table("split", "images", "classes that occur", "most frequent", "rarest")
    for split in splits:
        counted = sorted(split.classes.items(), key=lambda item: -item[1])
        present = [item for item in counted if item[1]]
        ends = [present[:1], present[-1:]]
        cells = [f"{key} ({n} {split.unit})" for part in ends for key, n in part]
        occur = f"{len(present)} of {len(counted)}" if counted else "-"
        cells = [*cells, "-", "-"][:2]
        table.add_row(*_cells(split.name, str(split.images), occur, *cells))
    console.print(table)
    for level, title in (("fault", "Would end or distort a run"), ("remark", "Also")):
        chosen = [one for one in findings if one.level == level]
        if not chosen:
            continue
        table = _table("split", "what", "count", "where")
        for one in chosen:
            kind = KINDS[one.kind][0]
            table.add_row(*_cells(one.split, kind, str(one.count), summary(one)))
        console.print(f"\n{title}:")
        console.print(table)
    console.print(f"\n{name}: {_verdict(findings)}")
    lines = (line.rstrip() for line in file.getvalue().splitlines())
    return "\n".join(lines) + "\n"


def _verdict(findings: Findings) -> str:
    number = findings.faults
    what = f"{number} finding{'s' * (number > 1)}" if number else "nothing"
    return f"{what} would end or distort a run"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in ("images", "count") else "left",
            overflow="fold",
        )
    return table


def _cells(*texts: str) -> list[Text]:
    # As text, since square brackets in a name would be rich's markup.
    return [Text(printable(text)) for text in texts]
