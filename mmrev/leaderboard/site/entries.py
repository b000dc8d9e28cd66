"""What the pages say of a record: figures in their units, and commands."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

from mmrev.leaderboard.groups import Group
from mmrev.leaderboard.record import (
    MeasuredRecord,
    Record,
    Stage,
    best_value,
    in_order,
    main_metric,
)
from mmrev.leaderboard.table import conditions, head, model_name
from mmrev.leaderboard.tasks import LOSS_METRIC, MAIN_METRICS

__all__ = [
    "amount",
    "chain",
    "entry",
    "figure",
    "main_figure",
    "metric_label",
    "percent",
    "reproduce",
]

# COCO's average precision: of what, and at which overlap or size of object.
_AP = re.compile(r"coco/(bbox|segm|boundary)_mAP(?:_(50|75|s|m|l))?")
_SHAPES = {"bbox": "box", "segm": "mask", "boundary": "boundary"}
_SIZES = {"s": " small", "m": " medium", "l": " large"}
# Panoptic, segmentation and recognition quality.
_QUALITY = re.compile(r"coco_panoptic/([PSR]Q)_(th|st)")


def metric_label(metric: str) -> str:
    """What readers call a metric."""
    if precision := _AP.fullmatch(metric):
        shape, part = precision.groups(default="")
        return f"{_SHAPES[shape]} AP{_SIZES.get(part, part)}"
    if quality := _QUALITY.fullmatch(metric):
        return f"{quality[1]} {'things' if quality[2] == 'th' else 'stuff'}"
    if metric == "accuracy/top1":
        return "top-1"
    if metric == LOSS_METRIC:
        return "cross-entropy"
    return metric.rpartition("/")[2] or metric


def percent(metric: str, value: float | None) -> float | None:
    """A figure in percent; None for no number, which COCO's -1 is, too, or a loss."""
    if value is None or value < 0 or metric == LOSS_METRIC:
        return None
    return round(value * 100 / best_value(metric), 6)


def figure(value: float) -> str:
    """A percentage; a space as wide as a digit keeps points of a column in line."""
    text = f"{value:.2f}"
    return f"{text[:-1]}\N{FIGURE SPACE}" if text.endswith("0") else text


def amount(value: float | None) -> str:
    """A cost, to a tenth; small ones to three digits."""
    if value is None:
        return "\N{EN DASH}"
    return f"{value:.1f}" if value >= 1 or value == 0 else f"{value:.3g}"


def main_figure(record: Record) -> str:
    """The metric that a record is ranked by, percent."""
    metric = main_metric(record)
    value = percent(metric, record.metrics[metric])
    return "\N{EN DASH}" if value is None else figure(value)


def entry(group: Group) -> dict[str, Any]:
    """A row of the table and a point of the plots, as JSON has it.

    Returns:
        ``id`` of the newest record, ``ids`` of all. ``tasks`` that it has a main figure
        of: a model of masks has boxes, too. ``figures`` by label, the ranking one
        first: mean, standard deviation (None below two seeds) and number of runs,
        percent. ``params`` in millions, ``flops`` in GMACs, ``latency`` in ms,
        ``memory`` in MB; None where unknown.
    """
    record = group.newest
    model, speed = record.model, getattr(record, "speed", None)
    main = main_metric(record)
    others = [name for name in MAIN_METRICS.values() if name in record.metrics]
    figures = {
        metric_label(name): {
            "mean": percent(name, group.mean(name)),
            "std": percent(name, group.std(name)),
            "runs": len(group.values(name)),
        }
        for name in dict.fromkeys([main, *others])
    }
    shape = model.flops_shape
    return {
        "id": record.id,
        "ids": [member.id for member in group.records],
        "name": model_name(record),
        "head": head(record),
        "family": model.family,
        "kind": record.kind,
        "task": record.task,
        "tasks": [
            task
            for task, metric in MAIN_METRICS.items()
            if task == record.task or metric in record.metrics
        ],
        "dataset": record.dataset.name,
        "split": record.dataset.split,
        "conditions": conditions(record),
        "incomplete": record.incomplete,
        "figures": figures,
        "metric": metric_label(main),
        "params": _scaled(model.params, 1e6),
        "flops": _scaled(model.flops, 1e9),
        "shape": f"{shape[0]} x {shape[1]}" if shape else None,
        "latency": speed.latency_ms if speed else None,
        "memory": speed.peak_memory_mb if speed else None,
        "device": speed.device if speed else None,
    }


def chain(record: MeasuredRecord) -> list[dict[str, Any]]:
    """The stages of a record's lineage, first to last, and its own training.

    Returns:
        ``name``; ``about``, what was trained on what, for how long, and from which
        stages by number where that is not the one before; ``checkpoint``. Empty where
        no lineage is known.
    """
    training = record.training
    if not training.lineage:
        return []
    own = Stage(
        name=record.config.name,
        kind=record.model.type,
        data=training.data,
        epochs=training.epochs,
        iterations=training.iterations,
        seed=record.seeds.train,
        starts=training.lineage,
        checkpoint=record.checkpoint,
    )
    stages = in_order([own])
    numbers = {stage.checkpoint.sha256: i for i, stage in enumerate(stages, 1)}
    rows = []
    for number, stage in enumerate(stages, 1):
        starts = sorted(numbers[one.checkpoint.sha256] for one in stage.starts)
        about = _about(stage, [] if starts == [number - 1] else starts)
        rows.append(
            {"name": stage.name, "about": about, "checkpoint": stage.checkpoint}
        )
    return rows


def _about(stage: Stage, starts: Sequence[int]) -> str:
    if stage.kind == "weights":
        return ", ".join(filter(None, (stage.kind, stage.data)))
    trained = f"{stage.kind} on {stage.data}" if stage.data else stage.kind
    seed = "" if stage.seed is None else f"seed {stage.seed}"
    origin = "" if stage.starts else "from scratch"
    if starts:
        origin = f"from {' and '.join(map(str, starts))}"
    return ", ".join(filter(None, (trained, stage.length, seed, origin)))


def reproduce(record: MeasuredRecord) -> list[str]:
    """The commands that train and test again what a record says."""
    config = shlex.quote(f"{record.config.name}.py")
    checkpoint = shlex.quote(record.checkpoint.name)
    seeds, commit = record.seeds, record.software.commit
    train = 'python tools/train.py "$CONFIG"'
    if seeds.train is not None:
        train += f" --cfg-options randomness.seed={seeds.train}"
    test = 'python tools/test.py "$CONFIG" "$CHECKPOINT"'
    if record.config.tta:
        test += " --tta"
    setup = "make setup"
    if record.software.ops == {"all": "compiled"}:
        setup += " OPS=compiled"
    starts = [
        f"# It started from {one.checkpoint.name}, SHA-256 {one.checkpoint.sha256}"
        for one in record.training.lineage
    ]
    return [
        *([f"git checkout {shlex.quote(commit)}"] if commit else []),
        f"{setup} && source .venv/bin/activate",
        f'CONFIG="$(find configs projects -name {config})"',
        *starts,
        train,
        f'CHECKPOINT="$(find work_dirs -name {checkpoint})"',
        'sha256sum "$CHECKPOINT"',
        f"{test} --out predictions.npz --cfg-options randomness.seed={seeds.test}",
        "python tools/leaderboard.py list",
    ]


def _scaled(amount: int | None, unit: float) -> float | None:
    return None if amount is None else amount / unit
