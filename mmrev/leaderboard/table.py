"""Records as tables: for the terminal and as markdown."""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from mmrev.leaderboard.groups import Group, grouped, ranks
from mmrev.leaderboard.record import MeasuredRecord, Record, main_metric
from mmrev.leaderboard.tasks import MAIN_METRICS, Task
from mmrev.text import printable

__all__ = [
    "conditions",
    "differences",
    "facts",
    "figures",
    "head",
    "markdown",
    "model_name",
    "terminal",
]

_COLUMNS = (
    *("rank", "model", "track", "data", "metrics", "params", "FLOPs", "kind"),
    *("protocol", "images", "from", "date"),
)
# Of the terminal beside the model, the first ones first where there is little room.
_BESIDE = ("metrics", "rank", "track", "params", "FLOPs", "kind", "data")
_NUMBERS = ("rank", "params", "FLOPs")
_GAP = 3
_OF_WHAT = re.compile("^(bbox|segm|boundary)_")
_RULE = (
    "Rank 1 is best. Groups whose difference is within noise (Welch's t-test over "
    "seeds, 5 %) share a rank; without a second seed there is none."
)


def markdown(records: Iterable[Record], task: Task | None = None) -> str:
    """Render records as a markdown table, one row a group of seeds."""
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *_rows(records, task)]
    return "".join(
        "| "
        + " | ".join(html.escape(cell).replace("|", r"\|") for cell in row)
        + " |\n"
        for row in rows
    )


def terminal(
    records: Iterable[Record], task: Task | None = None, width: int | None = None
) -> Table:
    """Render records as a table that rich prints; shorter than the markdown one.

    Args:
        records: Any.
        task: Whose main metric orders them; None takes each record's own.
        width: Letters of a line. Names are not broken: a column without room stands
            below the model. None gives each group one line, however long.
    """
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(records, task)]
    models = [row["model"] for row in rows]
    beside = [name for name in _BESIDE if name != "track" or _differ(rows)]
    columns = {name: [row[name] for row in rows] for name in beside}
    if width is not None:
        words = [word for model in models for word in model.split()]
        columns = _fitting(columns, width - max(map(cell_len, words), default=0))
        below = [name for name in beside if name not in columns]
        models = [_with_below(row, below) for row in rows]
    columns["model"] = models
    table = Table(
        **dict(box=box.HORIZONTALS, pad_edge=False, show_edge=False),
        **dict(caption=_RULE, caption_justify="left", show_lines=width is not None),
    )
    names = [name for name in _COLUMNS if name in columns]
    for name in names:
        justify = "right" if name in _NUMBERS else "left"
        table.add_column(name, justify=justify, no_wrap=name != "model")
    for cells in zip(*(columns[name] for name in names), strict=True):
        # As text, since square brackets in a name would be rich's markup.
        table.add_row(*map(Text, cells))
    return table


def _differ(rows: Sequence[dict[str, str]]) -> bool:
    """Whether there are several tracks."""
    return len({row["track"] for row in rows} - {""}) > 1


def _in_lines(name: str, cell: str) -> str:
    """A cell as several short lines."""
    if name == "data":
        data, _, split = cell.rpartition(" ")
        return f"{data}\n{PurePath(split).name.removesuffix('.json')}".strip()
    return cell.replace(", ", "\n").replace(" ± ", "\n± ").replace(" @ ", "\n@ ")


def _fitting(columns: dict[str, list[str]], room: int) -> dict[str, list[str]]:
    """Those that have room beside the model, in short lines."""
    found = {}
    for name, cells in columns.items():
        cells = [_in_lines(name, cell) for cell in cells]
        lines = [name, *(line for cell in cells for line in cell.split("\n"))]
        needed = max(map(cell_len, lines)) + _GAP
        if needed <= room:
            found[name] = cells
            room -= needed
    return found


def _with_below(row: dict[str, str], names: Sequence[str]) -> str:
    """The model, and below it the cells that have no column."""
    labels = {"rank": "rank {}", "params": "{} params", "FLOPs": "FLOPs {}"}
    known = [name for name in names if row[name] not in ("", "-")]
    cells = [labels.get(name, "{}").format(row[name]) for name in known]
    return "\n".join([row["model"], *filter(None, [", ".join(cells)])])


def facts(record: Record, prefix: str = "") -> dict[str, str]:
    """List what a record says, by dotted name; of curves their length alone."""
    content = record.model_dump(mode="json")
    for curve in content["training"]["curves"].values():
        curve["steps"] = curve["values"] = f"{len(curve['steps'])} points"
    return {printable(name): printable(value) for name, value in _flat(content, prefix)}


def differences(one: Record, other: Record) -> Table:
    """Render what two records do not have in common."""
    table = Table(show_lines=False)
    names = ("", one.id[:12], other.id[:12], "difference")
    for name in names:
        table.add_column(name, overflow="fold")
    left, right = facts(one), facts(other)
    for name in dict.fromkeys((*left, *right)):
        values = left.get(name, ""), right.get(name, "")
        if values[0] != values[1] and name != "id":
            cells = (name, *(_short(value) for value in values), _change(*values))
            table.add_row(*map(Text, cells))
    return table


def _rows(records: Iterable[Record], task: Task | None) -> Iterator[list[str]]:
    groups = sorted(grouped(records), key=lambda group: _order(group, task))
    rows = [_row(group) for group in groups]
    names = Counter(name for name, *_ in rows)
    ranked = zip(groups, rows, ranks(groups, task), strict=True)
    for group, (name, *cells), rank in ranked:
        origin = " + ".join(group.newest.training.origins)
        # The ends of several chains may be the same config.
        if names[name] > 1 and origin and group.newest.kind == "measured":
            name += f" (from {origin})"
        yield [str(rank or "-"), name, *cells]


def _order(group: Group, task: Task | None) -> tuple:
    record = group.newest
    value = group.mean(MAIN_METRICS[task] if task else main_metric(record))
    worst = value is None
    return task or record.task, record.dataset.name, worst, -(value or 0), record.id


def _row(group: Group) -> list[str]:
    record = group.newest
    model = record.model
    images = source = date = ""
    if isinstance(record, MeasuredRecord):
        name = record.config.name + (" + TTA" if record.config.tta else "")
        data = record.dataset
        images = str(data.images_expected)
        if record.incomplete:
            images = f"{data.images_evaluated} of {images}"
            name += f" ({record.incomplete})"
        if skipped := record.training.skipped:
            name += f" (without {skipped.told})"
        source = f"{record.checkpoint.name} ({record.checkpoint.sha256[:8]})"
        date = f"{record.date:%Y-%m-%d}"
    else:
        source = f"{record.source.title}, {record.source.where}"
        name = ", ".join(filter(None, [model.name, head(record)]))
        name += f" ({known})" if (known := conditions(record)) else ""
    return [
        name + _stitch(record),
        record.training.track or "",
        f"{record.dataset.name} {record.dataset.split}".strip(),
        figures(group),
        _params(record),
        _flops(record),
        record.kind,
        "; ".join(record.protocols),
        images,
        source,
        date,
    ]


def model_name(record: Record) -> str:
    """The model, with the stitch where it has several."""
    return record.model.name + _stitch(record)


def _stitch(record: Record) -> str:
    return "" if record.model.stitch is None else f", stitch {record.model.stitch}"


def head(record: Record) -> str:
    """What predicts from the features; a classifier has nothing to tell apart."""
    return "" if record.task == "classification" else record.model.head


def conditions(record: Record) -> str:
    """What tells records of one model apart."""
    training = record.training
    origin = " + ".join(training.origins)
    parts = [f"from {origin}" if origin else "", training.track or "", training.length]
    if training.skipped:
        parts.append(f"without {training.skipped.told}")
    if isinstance(record, MeasuredRecord):
        parts.append("TTA" if record.config.tta else "")
    else:
        parts += record.protocols
    return "; ".join(filter(None, parts))


def _params(record: Record) -> str:
    total, activated = record.model.params, record.model.params_activated
    text = "" if total is None else f"{total / 1e6:.1f}M"
    return text if activated is None else f"{text} ({activated / 1e6:.1f}M activated)"


def _flops(record: Record) -> str:
    model = record.model
    if model.flops is None:
        return ""
    shape = model.flops_shape
    at = f" @ {shape[0]}x{shape[1]}" if shape else ""
    return f"{model.flops / 1e9:.4g}G{at}"


def figures(group: Group) -> str:
    """The metrics worth a cell: mean, and where there are seeds their deviation."""
    return ", ".join(_figure(group, metric) for metric in _main(group.newest))


def _figure(group: Group, metric: str) -> str:
    mean, std = group.mean(metric), group.std(metric)
    text = f"{metric.rpartition('/')[2]} {'-' if mean is None else f'{mean:.4g}'}"
    if std is None:
        return text
    return f"{text} ± {std:.2g} (n={len(group.values(metric))})"


def _main(record: Record) -> Sequence[str]:
    """Return the metrics worth a cell: overall ones, or the first few."""
    wanted = (
        *("mAP", "mAP_50", "PQ", "PQ_th", "PQ_st"),
        *("mIoU", "mAcc", "aAcc", "top1", "top5"),
    )
    main = [
        key
        for key in record.metrics
        if _OF_WHAT.sub("", key.rpartition("/")[2]) in wanted
    ]
    return main or list(record.metrics)[:3]


def _flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(
        isinstance(item, (dict, list)) for item in value
    ):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}.{number}")
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "-" if value is None else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _change(one: str, other: str) -> str:
    if max(len(one), len(other)) > 30:  # a hash may consist of digits
        return ""
    try:
        return f"{float(other) - float(one):+.4g}"
    except ValueError:
        return ""
