"""Write the site: pages by jinja2, plots by plotly, whose script goes along."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

import mmrev
from mmrev.leaderboard.groups import Group, grouped
from mmrev.leaderboard.record import Record, best_value
from mmrev.leaderboard.scaling_law import (
    COSTS,
    LEAST_COSTS,
    LEAST_POINTS,
    Series,
    collect,
    describe,
)
from mmrev.leaderboard.site.entries import (
    amount,
    chain,
    entry,
    figure,
    main_figure,
    metric_label,
    percent,
    reproduce,
)
from mmrev.leaderboard.site.tracks import LEAST_MODELS, boards, correlations
from mmrev.leaderboard.table import facts
from mmrev.leaderboard.tasks import LOSS_METRIC, MAIN_METRICS

__all__ = ["build"]

_FOLDERS = ("record", "assets")
_OURS = {
    *("index.html", "compare.html", "scaling.html", "tracks.html"),
    *("methodology.html", "records.csv", "records.json", *_FOLDERS),
}
# By which a formula begins, as wide ones of East Asia do.
_FORMULAS = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
_PAGES = Environment(
    loader=PackageLoader(__package__),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.filters |= {"figure": figure, "amount": amount, "main": main_figure}


def build(records: Iterable[Record], out: str | Path) -> list[Path]:
    """Write the site of some records; what stood in `out` is replaced at the end.

    Args:
        records: Oldest first.
        out: New or empty folder, or one that holds an earlier site and nothing else.

    Returns:
        The files written.

    Raises:
        ValueError: There is no record, or `out` holds something else.
        OSError: It cannot be written; `out` is as it was.
    """
    records = list({record.id: record for record in records}.values())
    if not records:
        raise ValueError("a site needs at least one record, got none.")
    out = Path(out).resolve()
    _refuse_foreign(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        new, old = Path(folder, "new"), Path(folder, "old")
        new.mkdir()
        written = _write(records, new)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise
    return [out / name for name in written]


def _refuse_foreign(out: Path) -> None:
    """Replacing a folder deletes what is in it."""
    if not out.exists():
        return
    present = set(os.listdir(out))
    foreign = present - _OURS
    if present and (foreign or "index.html" not in present):
        raise ValueError(
            f"expected a new folder, or one with an earlier site alone, got {out}, "
            f"which holds {min(foreign or present)}; choose another folder."
        )


def _write(records: Sequence[Record], out: Path) -> list[str]:
    groups = grouped(records)
    # Of several tests of one checkpoint the last is in a group; the others have pages.
    group_of = {record.id: group for group in groups for record in group.records}
    entries = sorted(map(entry, groups), key=_order)
    sheets = [facts(record) for record in records]
    compared = _interned(records, sheets) | _columns(records, entries)
    families = sorted({record.model.family for record in records})
    common = {
        "version": mmrev.__version__,
        "families": families,
        "least": {
            "points": LEAST_POINTS,
            "costs": LEAST_COSTS,
            "models": LEAST_MODELS,
        },
    }
    texts = {
        "index.html": _page("index.html", common, entries=entries),
        "compare.html": _page("compare.html", common, facts=compared),
        "scaling.html": _page("scaling.html", common, **_laws(groups)),
        "tracks.html": _page("tracks.html", common, **_tracks(groups)),
        "methodology.html": _page("methodology.html", common),
        "records.csv": _csv(sheets),
        "records.json": _json([record.model_dump(mode="json") for record in records]),
        "assets/plotly.min.js": get_plotlyjs(),
    }
    for asset in files(__package__).joinpath("assets").iterdir():
        texts[f"assets/{asset.name}"] = asset.read_text(encoding="utf-8")
    for record in records:
        details = _details(record, group_of.get(record.id, Group((record,))))
        texts[f"record/{record.id}.html"] = _page("record.html", common, **details)
        texts[f"record/{record.id}.json"] = record.to_bytes().decode()
    for folder in _FOLDERS:
        (out / folder).mkdir()
    for name, text in texts.items():
        (out / name).write_text(text, encoding="utf-8", newline="")
    return list(texts)


def _order(row: dict[str, Any]) -> tuple:
    """The best of each test first."""
    best = row["figures"][row["metric"]]["mean"]
    return (
        list(MAIN_METRICS).index(row["task"]),
        row["dataset"],
        row["split"],
        -(best or 0),
    )


def _page(name: str, common: dict[str, Any], **values: Any) -> str:
    return _PAGES.get_template(name).render(common, **values)


def _details(record: Record, group: Group) -> dict[str, Any]:
    measured = record.kind == "measured"
    return {
        "record": record,
        "row": entry(Group((record,))),
        "of_group": entry(group),
        "group": group,
        "metrics": {
            name: (metric_label(name), value, percent(name, value))
            for name, value in record.metrics.items()
        },
        "curves": {
            name: curve.model_dump() for name, curve in record.training.curves.items()
        },
        "chain": chain(record) if measured else [],
        "commands": reproduce(record) if measured else [],
        "config": _json(record.config.resolved, indent=2) if measured else "",
    }


def _columns(
    records: Sequence[Record], entries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What heads a record's column, by its id, and the ids that a row adds."""
    heads = ("name", "head", "kind", "dataset", "split", "conditions", "incomplete")
    about = {}
    for record in records:
        row = entry(Group((record,)))
        seed = record.seeds.train if record.kind == "measured" else None
        about[record.id] = {name: row[name] for name in heads} | {"seed": seed}
    return {"about": about, "choices": [row["ids"] for row in entries]}


def _interned(
    records: Sequence[Record], sheets: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """The `facts` of the records; each text stands once, since configs repeat them.

    Returns:
        ``texts``; and by record id a flat list ``rows``: index of a name, index of its
        value, and so on.
    """
    places: dict[str, int] = {}
    rows = {}
    for record, sheet in zip(records, sheets, strict=True):
        ordered = sorted(sheet.items(), key=lambda item: _importance(item[0]))
        rows[record.id] = [
            places.setdefault(text, len(places))
            for name, value in ordered
            if not name.startswith(("id", "schema_version", "training.curves"))
            for text in (name, value)
        ]
    return {"texts": list(places), "rows": rows}


def _importance(name: str) -> int:
    """Place of a fact's part among the others; what a config says is long."""
    order = ("metrics", "speed", "kind", "task", "model", "dataset", "training")
    part = name.partition(".")[0]
    if name.startswith("config.resolved"):
        return len(order) + 1
    return order.index(part) if part in order else len(order)


def _laws(groups: Sequence[Group]) -> dict[str, Any]:
    """The plots by test and cost, and the series that have no law."""
    boards: dict[tuple, dict[str, Any]] = {}
    refused = []
    for cost, metric in product(COSTS, (None, LOSS_METRIC)):
        unit, _ = COSTS[cost]
        for series in collect(groups, cost, metric):
            label = metric_label(series.metric)
            title = f"{series.data}, {label}"
            law = {**_drawn(series), "text": describe(series)}
            if "line" not in law:
                refused.append({**law, "test": title, "unit": unit})
                continue
            error = f"{best_value(series.metric)} - {label}"
            if series.metric == LOSS_METRIC:
                error = label
            fresh = {"title": title, "error": error, "plots": {}}
            board = boards.setdefault((series.task, title), fresh)
            board["plots"].setdefault(unit, []).append(law)
    return {"boards": list(boards.values()), "refused": refused}


def _tracks(groups: Sequence[Group]) -> dict[str, Any]:
    found = boards(groups)
    return {"boards": found, "pairs": correlations(found)}


def _drawn(series: Series) -> dict[str, Any]:
    drawn = {
        "family": series.family,
        "kind": series.kind,
        "setting": series.setting,
        "names": series.names,
        "x": series.costs,
        "y": series.errors,
        "fitted": series.fitted,
    }
    try:
        law = series.law()
    except ValueError:
        return drawn
    x = np.geomspace(min(series.costs), max(series.costs), 40)
    names = ("x", "y", "low", "high")
    values = [np.round(line, 6).tolist() for line in (x, *law.band(x))]
    return drawn | {"line": dict(zip(names, values, strict=True))}


def _csv(sheets: Sequence[dict[str, str]]) -> str:
    """One row a record, without its config."""
    rows = [
        {
            _inert(name): _inert(value)
            for name, value in sheet.items()
            if not name.startswith("config.resolved")
        }
        for sheet in sheets
    ]
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    table = csv.DictWriter(text, names, restval="")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _inert(text: str) -> str:
    """Spreadsheets run what begins like a formula; a quote makes it text."""
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text != "-" and text.startswith(_FORMULAS) else text
    return text


def _json(content: Any, indent: int | None = None) -> str:
    return json.dumps(content, indent=indent, allow_nan=False)
