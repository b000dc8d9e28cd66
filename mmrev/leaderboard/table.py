"""Records as tables: for the terminal and as markdown."""

import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from mmrev.leaderboard.groups import Group, grouped, ranks
from mmrev.leaderboard.record import (
    MAIN_METRICS,
    MeasuredRecord,
    Record,
    Task,
    main_metric,
)

__all__ = ["differences", "facts", "markdown", "terminal"]

_COLUMNS = (
    *("rank", "model", "data", "metrics", "params", "FLOPs", "kind"),
    *("protocol", "images", "from", "date"),
)
_NARROW = 7
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


def terminal(records: Iterable[Record], task: Task | None = None) -> Table:
    """Render records as a table that rich prints; narrower than the markdown one."""
    table = Table(show_lines=True, caption=_RULE)
    for name in _COLUMNS[:_NARROW]:
        number = name in ("rank", "params", "FLOPs")
        table.add_column(name, overflow="fold", justify="right" if number else "left")
    for rank, model, data, metrics, params, flops, kind, *_ in _rows(records, task):
        cells = (
            *(rank, model, data.replace(" ", "\n", 1), metrics.replace(", ", "\n")),
            *(params, flops.replace(" @ ", "\n@ "), kind),
        )
        # As text, since square brackets in a name would be rich's markup.
        table.add_row(*map(Text, cells))
    return table


def facts(record: Record, prefix: str = "") -> dict[str, str]:
    """List what a record says, by dotted name; of curves their length alone."""
    content = record.model_dump(mode="json")
    for curve in content["training"]["curves"].values():
        curve["steps"] = curve["values"] = f"{len(curve['steps'])} points"
    return dict(_flat(content, prefix))


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
    for group, rank in zip(groups, ranks(groups, task), strict=True):
        yield [str(rank or "-"), *_row(group)]


def _order(group: Group, task: Task | None) -> tuple:
    record = group.newest
    value = group.mean(MAIN_METRICS[task] if task else main_metric(record))
    worst = value is None
    return task or record.task, record.dataset.name, worst, -(value or 0), record.id


def _row(group: Group) -> list[str]:
    record = group.newest
    model = record.model
    name = f"{model.name}, {model.head}"
    images = source = date = ""
    if isinstance(record, MeasuredRecord):
        name = record.config.name + (" + TTA" if record.config.tta else "")
        data = record.dataset
        images = str(data.images_expected)
        if record.incomplete:
            images = f"{data.images_evaluated} of {images}"
            name += f" ({record.incomplete})"
        source = f"{record.checkpoint.name} ({record.checkpoint.sha256[:8]})"
        date = f"{record.date:%Y-%m-%d}"
    else:
        source = f"{record.source.title}, {record.source.where}"
        name += f" ({conditions})" if (conditions := _conditions(record)) else ""
    stitch = "" if model.stitch is None else f", stitch {model.stitch}"
    return [
        name + stitch,
        f"{record.dataset.name} {record.dataset.split}".strip(),
        ", ".join(_figure(group, metric) for metric in _main(record)),
        "" if model.params is None else f"{model.params / 1e6:.1f}M",
        _flops(record),
        record.kind,
        "; ".join(record.protocols),
        images,
        source,
        date,
    ]


def _conditions(record: Record) -> str:
    """What tells published figures of one model apart."""
    training = record.training
    parts = (*training.pretraining, training.length, *record.protocols)
    return "; ".join(part for part in parts if part)


def _flops(record: Record) -> str:
    model = record.model
    if model.flops is None:
        return ""
    shape = model.flops_shape
    at = f" @ {shape[0]}x{shape[1]}" if shape else ""
    return f"{model.flops / 1e9:.4g}G{at}"


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
        isinstance(one, (dict, list)) for one in value
    ):
        for number, item in enumerate(value):
            yield from _flat(item, f"{name}.{number}")
    elif isinstance(value, list):
        yield name, ", ".join(map(str, value))
    else:
        yield name, "-" if value is None else _printable(str(value))


def _printable(text: str) -> str:
    """A config's strings may hold anything; control characters steer a terminal."""
    return "".join(
        one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _change(one: str, other: str) -> str:
    if max(len(one), len(other)) > 30:  # a hash may consist of digits
        return ""
    try:
        return f"{float(other) - float(one):+.4g}"
    except ValueError:
        return ""
