"""Reading a config: overrides, misspelt keys, registry scopes, required data."""

import inspect
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from torch.utils.data import DataLoader

from mmrev.console import hushed
from mmrev.errors import UserError, nearest
from mmrev.runs.nodes import TOP_LEVEL, walk
from mmrev.runs.overrides import override, warn_of_vain_assignments
from mmrev.runs.safe_config import read_safely
from mmrev.runs.track import apply_track
from mmrev.wrappers import plain_settings

__all__ = ["check_data", "evaluators", "load_config"]

_SCOPES = {
    "mmdet": "onedl-mmdetection",
    "mmseg": "onedl-mmsegmentation",
    "mmpretrain": "onedl-mmpretrain",
}
_LOADER = {
    *inspect.signature(DataLoader.__init__).parameters,
    *("dataset", "sampler", "batch_sampler", "worker_init_fn", "collate_fn"),
    *("num_batch_per_epoch", "disable_subprocess_warning"),
} - {"self"}
# What mmengine hands on to torch as it stands.
_OF_TORCH = (
    *("batch_size", "num_workers", "persistent_workers", "prefetch_factor"),
    *("timeout", "multiprocessing_context"),
)


def load_config(
    path: str | Path,
    overrides: Mapping[str, Any] | None = None,
    safe: bool = False,
) -> Config:
    """Read a config, apply overrides and track, import every package that it names.

    Args:
        path: The config.
        overrides: Value by dotted key, as of ``--cfg-options``.
        safe: Whether to take values alone from it, and run nothing; see
            `mmrev.runs.safe_config`.

    Raises:
        UserError: The config cannot be read, a key is misspelt, or it cannot take its
            track.
    """
    path = Path(path)
    if not path.is_file():
        hint = ""
        if path.parent.is_dir() and (siblings := [p.name for p in _configs(path)]):
            hint = f"; {nearest(path.name, siblings)}"
        raise UserError(f"config not found: {path}{hint}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            cfg = read_safely(path) if safe else Config.fromfile(path)
    except UserError:
        raise
    # Reading a config runs it, so anything can come up, and it is the config's.
    except Exception as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"config {path}: {type(error).__name__}: {first}") from error
    override(cfg, overrides or {})
    warn_of_vain_assignments(cfg)
    _check_names(cfg)
    _check_loaders(cfg)
    _import_scopes(cfg)
    apply_track(cfg)
    return cfg


def _configs(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.py"))


def _check_names(cfg: Config) -> None:
    """Refuse names that nobody reads though they resemble one that is read."""
    for key in cfg:
        # Any other name may serve as a variable of the config; 0.88 is what the common
        # variable test_pipeline has in common with tta_pipeline.
        if key not in TOP_LEVEL and get_close_matches(key, TOP_LEVEL, cutoff=0.885):
            hint = nearest(key, TOP_LEVEL)
            raise UserError(f"config {cfg.filename}: unknown key '{key}'; {hint}")
    for key in ("model", "default_scope"):
        if cfg.get(key) is None:
            raise UserError(f"config {cfg.filename}: '{key}' is missing.")
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for key in cfg.get(name) or {}:
            if key not in _LOADER:
                hint = nearest(key, _LOADER)
                raise UserError(f"config {cfg.filename}: {name}.{key}; {hint}")


def _check_loaders(cfg: Config) -> None:
    """Let torch itself look at what it takes of the dataloaders' settings."""
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name) or {}
        settings = {key: loader[key] for key in _OF_TORCH if key in loader}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # on the number of cores, said later
                DataLoader([], **settings)
        except (ValueError, TypeError) as error:
            stated = ", ".join(f"{key}={value}" for key, value in settings.items())
            raise UserError(
                f"config {cfg.filename}: {name} ({stated}): {error}; change it with "
                f"--cfg-options {name}.KEY=VALUE."
            ) from error


def _import_scopes(cfg: Config) -> None:
    """Import mmdet, mmseg, mmpretrain where the config names their components."""
    named = {
        cfg.default_scope,
        *(
            node.value.partition(".")[0]
            for node in walk(cfg._cfg_dict)
            if node.where.endswith(".type") and isinstance(node.value, str)
        ),
    }
    with hushed():
        import_module("mmrev.datasets")  # imports every toolbox that is installed
        for scope in sorted(named & _SCOPES.keys()):
            try:
                utils = import_module(f"{scope}.utils")
                utils.register_all_modules(init_default_scope=False)
            except ImportError as error:
                raise UserError(
                    f"config {cfg.filename} needs {scope} ({error}); "
                    f"pip install {_SCOPES[scope]}, or see `python -m mmrev.doctor`."
                ) from error


def evaluators(cfg: Config, split: str) -> list[ConfigDict]:
    """The metrics of a split: a config states none, one, or a list."""
    stated = cfg.get(f"{split}_evaluator") or []
    return stated if isinstance(stated, list) else [stated]


def check_data(cfg: Config, *splits: str) -> None:
    """Look for the folders and annotation files of the splits that will be read.

    Data sets of mmrev are left out: they make their files themselves.

    Args:
        cfg: The config.
        *splits: Of ``train``, ``val``, ``test``.

    Raises:
        UserError: Names the first that is missing.
    """
    for split in splits:
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        own = False
        place = f"{split}_dataloader.dataset"
        for where, dataset in plain_settings(loader["dataset"], place):
            if str(dataset.get("type", "")).startswith("mmrev."):
                own = True
            else:
                _check_dataset(where, dataset)
        if own:
            continue
        for evaluator in evaluators(cfg, split):
            if path := evaluator.get("ann_file"):
                _require(f"{split}_evaluator.ann_file", path)


def _check_dataset(where: str, dataset: Mapping) -> None:
    root = dataset.get("data_root") or ""
    if root:
        _require(f"{where}.data_root", root)
    prefixes = dataset.get("data_prefix") or {}
    if isinstance(prefixes, str):
        prefixes = {"": prefixes}
    places = {f"data_prefix.{key}".rstrip("."): p for key, p in prefixes.items()}
    places["ann_file"] = dataset.get("ann_file")
    for key, place in places.items():
        if place:
            _require(f"{where}.{key}", str(Path(root, place)))


def _require(where: str, place: str) -> None:
    # Paths of other storage (s3://...) are their backend's business.
    if "://" in place or Path(place).exists():
        return
    parent = Path(place)
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    raise UserError(
        f"data not found: {place} ({where}; {parent}/ exists). Put the data set there, "
        f"or set --cfg-options {where}=PATH."
    )
