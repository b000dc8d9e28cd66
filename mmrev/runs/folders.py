"""Where a run writes: made and tried before anything is computed."""

import os
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmrev.errors import UserError

__all__ = ["checkpoint_folder", "require_writable", "require_writable_folders"]


def require_writable(folder: str | Path, name: str) -> None:
    """Make a folder.

    Args:
        folder: with the folders above it.
        name: argument or key of the config that asks for it.

    Raises:
        UserError: It cannot be made, or nothing can be written to it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{name}: cannot make {folder} ({error.strerror}); choose another."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{name}: cannot write to {folder}; choose another place.")


def require_writable_folders(cfg: Config, args: Namespace) -> None:
    """Make the folders that a training or test writes to beside its work dir.

    Raises:
        UserError: Names the argument or key of one that cannot be made or written.
    """
    if getattr(args, "out", None):
        require_writable(Path(args.out).parent, "--out")
    if getattr(args, "show_dir", None):
        require_writable(args.show_dir, "--show-dir")
    if hasattr(args, "checkpoint"):
        require_writable(Path(cfg.work_dir, "records"), "--work-dir")
    elif folder := checkpoint_folder(cfg):
        require_writable(folder, "default_hooks.checkpoint.out_dir")
    for name, folder in _asked_for(cfg):
        if not _is_remote(folder):
            require_writable(folder, name)


def checkpoint_folder(cfg: Config) -> Path | None:
    """Where checkpoints go; None if that is the work dir, or no folder of this machine.

    As mmengine has it: below the folder asked for, by the last name of the work dir.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or {}
    folder = hook.get("out_dir")
    if folder is None or folder == cfg.work_dir or _is_remote(folder):
        return None
    return Path(folder, Path(cfg.work_dir).name)


def _asked_for(cfg: Config) -> Iterator[tuple[str, str]]:
    """Folders of hooks and of the visualizer, by key."""
    hooks = dict(cfg.get("default_hooks") or {})
    hooks.pop("checkpoint", None)
    found = {f"default_hooks.{name}.out_dir": hook for name, hook in hooks.items()}
    for index, hook in enumerate(cfg.get("custom_hooks") or []):
        found[f"custom_hooks[{index}].out_dir"] = hook
    visualizer = cfg.get("visualizer") or {}
    found["visualizer.save_dir"] = visualizer
    for index, backend in enumerate(visualizer.get("vis_backends") or []):
        found[f"visualizer.vis_backends[{index}].save_dir"] = backend
    for name, node in found.items():
        if folder := (node or {}).get(name.rpartition(".")[2]):
            yield name, str(folder)


def _is_remote(folder: str | Path) -> bool:
    """Of a storage that mmengine's fileio reaches, such as s3://bucket."""
    return "://" in str(folder)
