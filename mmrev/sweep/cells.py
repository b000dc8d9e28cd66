"""The cells of a suite: one config with one seed, and what it starts from."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmrev.errors import UserError, nearest, shortened
from mmrev.hashes import file_sha256
from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.runs.config import check_data, load_config
from mmrev.runs.folders import checkpoint_folder
from mmrev.runs.nodes import walk
from mmrev.sweep.suite import Run, Suite, axes_of, choices_of

__all__ = ["Cell", "expand", "require_inputs", "selected"]


@dataclass(frozen=True)
class Cell:
    """One training with one seed, and its test.

    Attributes:
        run: Its name in the suite.
        path: Of the config.
        cfg: As read, with the options of the suite, but for the seed.
        seed: Of the training.
        options: Values of the config by dotted key, as the tools get them.
        train_args: More arguments of ``tools/train.py``.
        safe: Whether the config is read for its values alone.
        tested: Whether it leaves a record.
        start: The cell whose checkpoint it starts from.
        weights: Other files and addresses that it starts from.
        folder: Of everything that comes of it. Its name holds a hash of all that
            decides the results, but for the seed: of the resolved config, the weights,
            and of what `start` is decided by.
        checkpoint: The last one of its training.
        config_sha256: Of the resolved config, as its record will state it.
    """

    run: str
    path: str
    cfg: Config = field(repr=False, compare=False)
    seed: int
    options: Mapping[str, Any]
    train_args: Sequence[str]
    safe: bool
    tested: bool
    start: "Cell | None"
    weights: Sequence[str]
    folder: Path
    checkpoint: Path
    config_sha256: str

    @property
    def model(self) -> str:
        """Name of the config."""
        return Path(self.path).stem

    @property
    def name(self) -> str:
        """What the user reads."""
        return f"{self.model} seed {self.seed}"


def expand(suite: Suite, safe: bool = False) -> list[Cell]:
    """List the cells of a suite, each behind the one that it starts from.

    Args:
        suite: Any.
        safe: As of `mmrev.runs.config.load_config`.

    Raises:
        UserError: A config has a mistake, two cells are the same, or one cannot start
            where the suite says.
    """
    cells: dict[tuple, Cell] = {}
    for name in _in_order(suite):
        for values in choices_of(suite, suite.runs[name]):
            for cell in _of_seeds(suite, name, values, safe, cells):
                cells[name, tuple(values.items()), cell.seed] = cell
    places: dict[Path, Cell] = {}
    for cell in cells.values():
        if (other := places.setdefault(cell.folder, cell)) is not cell:
            raise UserError(
                f"suite {suite.name}: runs.{other.run} and runs.{cell.run} have the "
                f"same cell, {cell.path} with the same options; remove one."
            )
    return list(cells.values())


def selected(cells: Sequence[Cell], patterns: Sequence[str]) -> list[Cell]:
    """Those whose config's name fits a pattern, and what they start from.

    Raises:
        UserError: A pattern fits none.
    """
    wanted: dict[Path, Cell] = {}
    for pattern in patterns:
        found = [cell for cell in cells if fnmatch(cell.model, pattern)]
        if not found:
            hint = nearest(pattern, {cell.model for cell in cells})
            raise UserError(f"--only {pattern}: fits no config of the suite; {hint}")
        for cell in found:
            while cell is not None:
                wanted[cell.folder] = cell
                cell = cell.start
    return [cell for cell in cells if cell.folder in wanted]


def require_inputs(cells: Sequence[Cell]) -> None:
    """Look for weights and data before days are spent.

    Raises:
        UserError: Names those that are missing.
    """
    lines = {}
    for cell in cells:
        splits = ("train", "val", "test") if cell.tested else ("train", "val")
        try:
            check_data(cell.cfg, *splits)
        except UserError as error:
            lines.setdefault(str(error), cell.model)
        for path in cell.weights:
            if "://" not in path and not Path(path).is_file():
                lines.setdefault(f"no weights {path}", cell.model)
    if lines:
        told = [f"{model}: {line.rstrip('.')}" for line, model in lines.items()]
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        raise UserError(
            f"the sweep lacks what its configs read: {'; '.join(told[:3])}{more}. Or "
            "choose others with --only."
        )


def _in_order(suite: Suite) -> list[str]:
    """The runs, each behind the one that it starts from."""
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        if (start := suite.runs[name].start) is not None:
            add(start)
        ordered[name] = None

    for name in suite.runs:
        add(name)
    return list(ordered)


def _of_seeds(
    suite: Suite,
    name: str,
    values: Mapping[str, str],
    safe: bool,
    cells: Mapping[tuple, Cell],
) -> Iterator[Cell]:
    run = suite.runs[name]
    path = run.config.format(**values)
    options = {**suite.options, **run.options}
    try:
        cfg = load_config(path, options, safe)
    except UserError as error:
        raise UserError(f"suite {suite.name}: runs.{name}: {error}") from None
    if cfg.get("train_cfg") is None:
        raise UserError(f"runs.{name}: {path} has no train_cfg; nothing to train.")
    places = _starting_weights(cfg)
    for seed in suite.seeds:
        start = None
        own = {**options, "randomness.seed": seed}
        if run.start is not None:
            start = _start_of(suite, name, values, seed, cells)
            for place in _places_of_start(places, f"runs.{name}", path):
                own[place] = str(start.checkpoint)
        weights = [value for place, value in places.items() if place not in own]
        resolved = deepcopy(cfg)
        resolved.merge_from_dict(own)
        key = _key(resolved, run, start, weights, own)
        folder = suite.folder / f"{Path(path).stem}-{key}" / f"seed-{seed}"
        resolved.work_dir = str(folder)
        yield Cell(
            run=name,
            path=path,
            cfg=cfg,
            seed=seed,
            options=own,
            train_args=run.train_args,
            safe=safe,
            tested=run.test,
            start=start,
            weights=weights,
            folder=folder,
            checkpoint=Path(checkpoint_folder(resolved) or folder, _last(resolved)),
            config_sha256=config_sha256(resolved.to_dict()),
        )


def _start_of(
    suite: Suite,
    name: str,
    values: Mapping[str, str],
    seed: int,
    cells: Mapping[tuple, Cell],
) -> Cell:
    """The cell to start from: that of the same seed and the same values of axes."""
    start = suite.runs[name].start
    axes = axes_of(suite.runs[start])
    if strange := [axis for axis in axes if axis not in values]:
        raise UserError(
            f"suite {suite.name}: runs.{start} is one for each {{{strange[0]}}}, of "
            f"which runs.{name} names none; name it in runs.{name}.config."
        )
    shared = {axis: values[axis] for axis in axes}
    if (found := cells.get((start, tuple(shared.items()), seed))) is None:
        told = ", ".join(f"{axis}={value}" for axis, value in shared.items())
        raise UserError(
            f"suite {suite.name}: runs.{name} starts from runs.{start}, which has no "
            f"{told}; add it to its matrix."
        )
    return found


def _starting_weights(cfg: Config) -> dict[str, str]:
    """Files and addresses that a config starts from, by dotted key."""
    found = {
        node.where: node.value
        for node in walk(cfg.model, "model")
        if node.where.endswith(".checkpoint") and ".init_cfg." in node.where
    }
    if cfg.get("load_from"):
        found["load_from"] = cfg.load_from
    return found


def _places_of_start(places: Mapping[str, str], run: str, path: str) -> list[str]:
    """Where a config names the one file that it starts from.

    A whole model that is loaded counts before the weights of its parts.
    """
    if "load_from" in places:
        return ["load_from"]
    if len(set(places.values())) == 1:
        return list(places)
    if not places:
        raise UserError(
            f"{run}.start: config {path} starts from no weights; give its backbone "
            "init_cfg=dict(type='Pretrained', checkpoint='...')."
        )
    raise UserError(
        f"{run}.start: config {path} starts from {len(places)} files "
        f"({shortened(places, 3)}), and one takes the place of one only."
    )


def _key(
    resolved: Config,
    run: Run,
    start: Cell | None,
    weights: Sequence[str],
    options: Mapping[str, Any],
) -> str:
    """Hash what decides a cell's results, but for the seed."""
    config = deepcopy(resolved)
    config.merge_from_dict({"randomness.seed": None})
    if start is not None:
        # Its place holds a seed; what it is made by is in the name of its folder.
        replaced = {key: "" for key, value in options.items() if _is_of(start, value)}
        config.merge_from_dict(replaced)
    decides = {
        "config": config_sha256(config.to_dict()),
        "train_args": sorted(run.train_args),
        "start": None if start is None else start.folder.parent.name,
        "weights": [_content(path) for path in weights],
    }
    text = json.dumps(decides, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _is_of(start: Cell, value: Any) -> bool:
    return value == str(start.checkpoint)


@cache
def _content(path: str) -> str:
    """Hash of a file; of what is elsewhere, or not there yet, its name."""
    return file_sha256(path) if Path(path).is_file() else path


def _last(cfg: Config) -> str:
    """Name of the last checkpoint of a training."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    by_epoch = hook.get("by_epoch", True)
    length = "max_epochs" if by_epoch else "max_iters"
    if length not in cfg.train_cfg:
        raise UserError(
            f"config {cfg.filename}: default_hooks.checkpoint has by_epoch={by_epoch}, "
            f"but train_cfg no {length}; set by_epoch={not by_epoch}."
        )
    usual = "epoch_{}.pth" if by_epoch else "iter_{}.pth"
    return (hook.get("filename_tmpl") or usual).format(cfg.train_cfg[length])
