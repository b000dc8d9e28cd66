"""Where the weights of a checkpoint come from, as its config, meta and log tell."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mmrev.checkpoints import (
    Conversion,
    convert_file,
    is_folder,
    layout_of,
    load_checkpoint_file,
)
from mmrev.checkpoints.checksums import IN_FOLDER
from mmrev.checkpoints.folders import read_rest
from mmrev.checkpoints.runs import weights_file
from mmrev.errors import shortened
from mmrev.hashes import file_sha256
from mmrev.leaderboard.record import (
    MAX_NAME,
    MAX_POINTS,
    MAX_TEXT,
    CheckpointInfo,
    Curve,
    SkippedImages,
    Stage,
    Training,
    TrainingInfo,
    few_stages,
    in_order,
)
from mmrev.leaderboard.tracks import TRACKS, track_of
from mmrev.text import printable
from mmrev.wrappers import plain_settings

__all__ = [
    "LINEAGE_KEY",
    "PROCESSES_KEY",
    "SKIPPED_KEY",
    "convert_told",
    "stage_of",
    "starting_stages",
    "told_training",
    "training_info",
    "training_of",
]

LINEAGE_KEY = "lineage"
"""In the meta of a checkpoint: a `Training`, in values that JSON knows."""
PROCESSES_KEY = "processes"
"""In the meta of a checkpoint: how many processes trained it."""
SKIPPED_KEY = "unreadable_images"
"""In the meta of a checkpoint: a dict of ``faults`` by path, ``total``, ``draws``."""

_GIVE_UP = (
    "Or give the lineage of a file up: c = torch.load(SRC, weights_only=True); "
    f"del c['meta']['{LINEAGE_KEY}']; torch.save(c, DST)."
)
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

    Raises:
        ValueError: As of `told_training`.
    """
    told = told_training(meta, checkpoint)
    iterations = meta.get("iter")
    if told:
        origin = {"data": told.data, "lineage": told.starts}
    else:
        starts = [*_initial_weights(config.get("model")), *filter(None, [load_from])]
        origin = {
            "data": _training_data(config) if meta else None,
            "pretraining": list(dict.fromkeys(map(_without_folder, starts))),
        }
    return TrainingInfo(
        **origin,
        epochs=meta.get("epoch") if _by_epoch(config) else None,
        iterations=iterations,
        batch=_batch(config, meta.get(PROCESSES_KEY)),
        curves={} if iterations is None else _curves(Path(checkpoint), iterations),
        skipped=_skipped(meta.get(SKIPPED_KEY)),
        skipped_steps=meta.get("skipped_steps"),
        deterministic=meta.get("deterministic") or None,
        track=_track(config, meta),
    )


def training_of(
    config: Mapping[str, Any], name: str, starts: Sequence[Stage], meta: Mapping
) -> Training:
    """What a checkpoint is to tell of its training.

    Args:
        config: Resolved, of the training.
        name: Of the config.
        starts: As of `starting_stages`.
        meta: Of the checkpoint.
    """
    data = _training_data(config)
    return Training(
        # No name of a config may keep a checkpoint from being written.
        name=printable(name)[:MAX_NAME],
        kind=printable(", ".join(_classes(config["model"])))[:MAX_NAME],
        data=data and printable(data)[:MAX_TEXT],
        epochs=meta["epoch"] if _by_epoch(config) else None,
        iterations=meta["iter"],
        seed=meta["seed"],
        starts=list(starts),
    )


def told_training(meta: Mapping[str, Any], path: str | Path) -> Training | None:
    """What a checkpoint tells of its training; None if it tells nothing.

    Args:
        meta: Of the checkpoint, which may come from anybody.
        path: Of it, for the message.

    Raises:
        ValueError: It is no `Training`; a stage without a hash, say.
    """
    if (stated := meta.get(LINEAGE_KEY)) is None:
        return None
    try:
        return Training.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(place)[:60] for place in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(
            f"Checkpoint {path}: expected a lineage whose stages all name the file and "
            f"the SHA-256 of their weights, got {where or 'one'}: {message}. Take the "
            f"file that its training wrote. {_GIVE_UP}"
        ) from None


def starting_stages(config: Mapping[str, Any]) -> list[Stage]:
    """The checkpoints that a training starts from, as stages of its lineage.

    Args:
        config: Of the training; what parts of its model and ``load_from`` name.

    Raises:
        FileNotFoundError: One is not there.
        ValueError: One cannot be read or hashed, or tells a wrong lineage; or they have
            too many stages.
    """
    paths = [*_initial_weights(config.get("model")), config.get("load_from")]
    found = [stage_of(path) for path in dict.fromkeys(filter(None, paths))]
    stages = {stage.checkpoint.sha256: stage for stage in found}
    # A whole model may have started from what its parts start from.
    for stage in found:
        for earlier in in_order(stage.starts):
            stages.pop(earlier.checkpoint.sha256, None)
    try:
        few_stages([stage.model_dump() for stage in stages.values()])
    except ValueError as error:
        raise ValueError(f"the lineage of this training: {error}. {_GIVE_UP}") from None
    return list(stages.values())


def stage_of(path: str | Path) -> Stage:
    """A checkpoint as a stage of what starts from it.

    Args:
        path: Of a file or of the folder of a sharded run; or an address, or a name, as
            of ``load_from``.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It cannot be read or hashed, or tells a wrong lineage.
    """
    file = weights_file(str(path))
    if is_folder(file):
        content, hashed = read_rest(file), file / IN_FOLDER
    else:
        content, hashed = load_checkpoint_file(file, "mapped"), file
    meta = content.get("meta")
    told = told_training(meta if isinstance(meta, Mapping) else {}, file)
    return Stage(
        **(_published(path, content) if told is None else told.model_dump()),
        checkpoint=CheckpointInfo(name=file.name, sha256=file_sha256(hashed)),
    )


def convert_told(source: str | Path, target: str | Path, **settings: Any) -> Conversion:
    """Convert a checkpoint file, which then tells what it was made of.

    Args:
        source: As of `mmrev.checkpoints.convert_file`, as all others.
        target: Likewise.
        **settings: Likewise.

    Raises:
        FileExistsError: As `convert_file`.
        FileNotFoundError: Likewise.
        ValueError: Likewise, or as of `stage_of`.
    """
    start = stage_of(source)
    made = Training(name=start.name, kind="conversion", starts=[start])
    meta = {LINEAGE_KEY: made.model_dump(mode="json")}
    return convert_file(source, target, **settings, meta=meta)


def _published(path: str | Path, content: Mapping) -> dict[str, Any]:
    """What is known of weights that tell of no training."""
    name, layout = str(path), layout_of(content)
    origin = f"names of {layout}" if layout else None
    return {
        "name": Path(name).name,
        "kind": "weights",
        "data": name if "://" in name else origin,
    }


def _classes(model: Mapping[str, Any]) -> Iterator[str]:
    """The classes of a model, a wrapper's before that of what it wraps."""
    kind = model["type"]  # of configs in Python's own form, a class
    yield kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
    if isinstance(inner := model.get("model"), Mapping):
        yield from _classes(inner)


def _by_epoch(config: Mapping[str, Any]) -> bool:
    loop = config.get("train_cfg") or {}
    return "max_epochs" in loop or loop.get("by_epoch", False)


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
