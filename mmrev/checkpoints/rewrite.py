"""The weights of a run in another kind of file: ``.pth`` and ``.safetensors``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmrev.atomic import replacing
from mmrev.checkpoints.checksums import verify_checksum
from mmrev.checkpoints.convert import unwrap_state_dict
from mmrev.checkpoints.files import load_checkpoint_file, save_state_dict
from mmrev.checkpoints.folders import is_folder, read_folder

__all__ = ["rewrite_run"]


def rewrite_run(source: str | Path, target: str | Path) -> str:
    """Write all weights of a run's checkpoint, and what it says of itself.

    Tests take either file; training continues from neither, but from the ``.pth`` of
    a sharded run, which has everything.

    Args:
        source: as of `load_checkpoint_file`, with ``state_dict``; or a folder of
            `mmrev.checkpoints.folders`.
        target: as of `save_state_dict`; must not exist.

    Returns:
        What was written, and what was left out.

    Raises:
        FileExistsError: if the target exists.
        FileNotFoundError: if the source does not.
        ValueError: as `load_checkpoint_file`, and if the source is damaged or holds no
            weights of a run.
    """
    if Path(target).exists():
        raise FileExistsError(f"{target} exists already. Remove it or name another.")
    if is_folder(source):
        checkpoint = read_folder(source)
        if Path(target).suffix != ".safetensors":
            with replacing(target) as file:
                torch.save(checkpoint, file)
            return f"{target}: all of {source}, from which training continues, too."
    else:
        verify_checksum(source)
        checkpoint = load_checkpoint_file(source)
    if not isinstance(checkpoint.get("state_dict"), Mapping):
        raise ValueError(
            f"{source}: expected a checkpoint of a run, with state_dict, got "
            f"{', '.join(list(checkpoint)[:5])}. For weights of others, choose another "
            "--layout."
        )
    weights = unwrap_state_dict(checkpoint)
    meta = checkpoint.get("meta") or {}
    kept = {key: value for key, value in meta.items() if _fits(value)}
    save_state_dict(weights, target, kept)
    left = sorted(checkpoint.keys() - {"state_dict", "meta"})
    left += [f"meta.{key}" for key in meta if key not in kept]
    report = f"{target}: {len(weights)} tensors; of the run, {', '.join(kept) or '-'}"
    if "ema_state_dict" in checkpoint:
        report += "; they are the averaged ones, which tests use"
    return f"{report}; left out: {', '.join(left) or 'nothing'}."


def _fits(value: Any) -> bool:
    """Whether JSON can hold a value."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
