"""Where the weights of a checkpoint come from, as its config, meta and log tell."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmrev.errors import shortened
from mmrev.leaderboard.record import MAX_POINTS, Curve, SkippedImages, TrainingInfo
from mmrev.leaderboard.tracks import TRACKS, track_of
from mmrev.wrappers import plain_settings

__all__ = ["PROCESSES_KEY", "SKIPPED_KEY", "training_info"]

PROCESSES_KEY = "processes"
"""In the meta of a checkpoint: how many processes trained it."""
SKIPPED_KEY = "unreadable_images"
"""In the meta of a checkpoint: a dict of ``faults`` by path, ``total``, ``draws``."""

_CURVES = ("loss", "lr", "grad_norm")


def training_info(
    config: Mapping[str, Any],
    load_from: str | None,
    meta: Mapping[str, Any],
    checkpoint: str | Path,
) -> TrainingInfo:
    """Tell how a checkpoint was trained, as far as that is known.

    Args:
        config: Resolved, of the training.
        load_from: The checkpoint that the config starts from, if any.
        meta: Of the tested checkpoint; empty for weights that say nothing.
        checkpoint: The tested file, whose log is looked for beside it.
    """
    starts = [*_initial_weights(config.get("model"))]
    if load_from:
        starts.append(load_from)
    loop = config.get("train_cfg") or {}
    by_epoch = "max_epochs" in loop or loop.get("by_epoch", False)
    iterations = meta.get("iter")
    return TrainingInfo(
        data=_training_data(config) if meta else None,
        pretraining=list(dict.fromkeys(map(_without_folder, starts))),
        epochs=meta.get("epoch") if by_epoch else None,
        iterations=iterations,
        batch=_batch(config, meta.get(PROCESSES_KEY)),
        curves={} if iterations is None else _curves(Path(checkpoint), iterations),
        skipped=_skipped(meta.get(SKIPPED_KEY)),
        skipped_steps=meta.get("skipped_steps"),
        deterministic=meta.get("deterministic") or None,
        track=_track(config, meta),
    )


def _batch(config: Mapping[str, Any], processes: int | None) -> int | None:
    batch = (config.get("train_dataloader") or {}).get("batch_size")
    return None if None in (batch, processes) else batch * processes


def _track(config: Mapping[str, Any], meta: Mapping[str, Any]) -> str | None:
    """As the training noted it; of an older one, as its config tells."""
    if (noted := meta.get("track")) in TRACKS:
        return noted
    return track_of(config) if meta else None


def _skipped(stated: Mapping[str, Any] | None) -> SkippedImages | None:
    if stated is None:
        return None
    return SkippedImages(
        images=len(stated["faults"]), total=stated["total"], draws=stated["draws"]
    )


def _initial_weights(value: Any) -> Iterator[str]:
    """The checkpoints that parts of a model start from, at any depth."""
    if isinstance(value, Mapping):
        stated = value.get("init_cfg") or []  # one, or a list of them
        for init in [stated] if isinstance(stated, Mapping) else stated:
            if path := init.get("checkpoint"):
                yield str(path)
        for item in value.values():
            yield from _initial_weights(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _initial_weights(item)


def _without_folder(path: str) -> str:
    """Keep an address whole, of a local file the name: its place is of the machine."""
    return path if "://" in path else Path(path).name


def _training_data(config: Mapping[str, Any]) -> str | None:
    dataset = (config.get("train_dataloader") or {}).get("dataset") or {}
    names = {_data_name(one): None for _, one in plain_settings(dataset, "")}
    return shortened(name for name in names if name) or None


def _data_name(settings: Mapping[str, Any]) -> str:
    prefix = settings.get("data_prefix") or ""
    if isinstance(prefix, Mapping):
        prefix = next(iter(prefix.values()), "")
    place = settings.get("ann_file") or prefix or settings.get("split") or ""
    return f"{settings.get('type', '')} {place}".strip()


def _curves(checkpoint: Path, last: int) -> dict[str, Curve]:
    """Read mmengine's logs beside a checkpoint, up to its iteration.

    A resumed training has several; of what was done twice the later counts.
    """
    points: dict[str, dict[int, float]] = {name: {} for name in _CURVES}
    for log in sorted(checkpoint.parent.glob("*/vis_data/scalars.json")):
        for line in log.read_text(errors="replace").splitlines():
            try:
                scalars = json.loads(line)
                step = int(scalars["step"])
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
                continue  # a training that was killed leaves half a line
            # Lines of a validation count epochs, and have no learning rate.
            if "lr" not in scalars or not 0 <= step <= last:
                continue
            for name in _CURVES:
                value = scalars.get(name)
                if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
                    points[name][step] = float(value)
    return {name: _thinned(found) for name, found in points.items() if found}


def _thinned(points: Mapping[int, float]) -> Curve:
    steps = sorted(points)
    kept = np.linspace(0, len(steps) - 1, min(len(steps), MAX_POINTS)).round()
    steps = [steps[i] for i in kept.astype(int)]
    return Curve(steps=steps, values=[points[step] for step in steps])
