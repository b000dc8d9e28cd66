"""The table of the records, as markdown and for the terminal."""

from collections.abc import Iterable

from rich.table import Table

from .record import MeasuredRecord as Record

__all__ = ["markdown", "terminal"]

_COLUMNS = [
    "config",
    "data set",
    "metrics",
    "images",
    "params",
    "FLOPs",
    "protocol",
    "checkpoint",
    "date",
]


def markdown(records: Iterable[Record]) -> str:
    """Render records as a markdown table, one row each."""
    rows = [_COLUMNS, ["---"] * len(_COLUMNS), *map(_row, records)]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |\n"
        for row in rows
    )


def terminal(records: Iterable[Record]) -> Table:
    """Render records as a table that rich prints; narrower than the markdown one."""
    table = Table(show_lines=True)
    for name in _COLUMNS[:6]:
        table.add_column(name, overflow="fold")
    for record in records:
        config, data, metrics, *rest = _row(record)[:6]
        table.add_row(
            config, data.replace(" ", "\n"), metrics.replace(", ", "\n"), *rest
        )
    return table


def _row(record: Record) -> list[str]:
    data, model = record.dataset, record.model
    height, width = model.flops_shape
    stitch = "" if model.stitch is None else f", stitch {model.stitch}"
    return [
        record.config.name + stitch + (" + TTA" if record.config.tta else ""),
        f"{data.type} {data.split}",
        ", ".join(f"{key} {_number(value)}" for key, value in _main(record)),
        str(data.images_expected)
        if data.images_evaluated == data.images_expected
        else f"{data.images_evaluated} of {data.images_expected}",
        f"{model.params / 1e6:.1f}M",
        f"{model.flops / 1e9:.3g}G @ {height}x{width}",
        "; ".join(record.protocols),
        f"{record.checkpoint.name} ({record.checkpoint.sha256[:8]})",
        f"{record.date:%Y-%m-%d}",
    ]


def _main(record: Record) -> list[tuple[str, float | None]]:
    """Return the metrics worth a cell: overall ones, or the first few."""
    wanted = ("mAP", "mAP_50", "mIoU", "mAcc", "aAcc", "top1", "top5")
    main = [
        (key.rpartition("/")[2], value)
        for key, value in record.metrics.items()
        if key.rpartition("/")[2].removeprefix("bbox_").removeprefix("segm_") in wanted
    ]
    return main or list(record.metrics.items())[:3]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
