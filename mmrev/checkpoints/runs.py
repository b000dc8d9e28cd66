"""Checkpoints of a run: read safely, compared strictly, found again."""

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import (
    CheckpointLoader,
    get_deprecated_model_names,
    get_external_models,
    get_mmcls_models,
    get_torchvision_models,
)
from mmengine.runner.checkpoint import _get_mmengine_home as _home
from torch import nn

from mmrev.checkpoints.checksums import checksum_file, verify_checksum
from mmrev.checkpoints.convert import TRAINING_ONLY
from mmrev.checkpoints.files import load_checkpoint_file, local_file
from mmrev.checkpoints.folders import SUFFIX, is_folder, read_folder, read_rest
from mmrev.errors import UserError, nearest

__all__ = [
    "find_resumable",
    "load_strictly",
    "read_checkpoint",
    "read_resumable",
    "use_safe_loading",
    "weights_file",
]

_ADDRESSES = {
    "torchvision": get_torchvision_models,
    "modelzoo": get_torchvision_models,
    "open-mmlab": get_external_models,
    "openmmlab": get_external_models,
    "mmcls": get_mmcls_models,
}
"""Of the weights that mmengine knows by name, by the scheme of the name."""


def read_checkpoint(path: str | Path) -> dict:
    """Read a checkpoint of a run, onto the CPU, without executing anything in it.

    Args:
        path: A file, an http(s) URL, or a folder of `mmrev.checkpoints.folders`.

    Raises:
        UserError: There is no such file, it cannot be downloaded, it is no checkpoint,
            or not the one that its checksum was taken of.
    """
    try:
        if is_folder(path):
            return read_folder(path)
        verify_checksum(path)
        checkpoint = load_checkpoint_file(path)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(
            f"Checkpoint {path}: expected a dict with weights, got "
            f"{type(checkpoint).__name__}."
        )
    return checkpoint


def _read_rest(path: str | Path) -> dict:
    try:
        return read_rest(path)
    except (FileNotFoundError, ValueError) as error:
        raise UserError(str(error)) from error


def use_safe_loading() -> None:
    """Make :func:`read_checkpoint` the loader of files and URLs in mmengine.

    mmengine's own falls back to running pickled code after a warning.
    """

    # mmengine's message names the loader by what follows "load_from_".
    def load_from_safe(path: str, map_location: Any = None) -> dict:
        return read_checkpoint(path)

    for prefix in ("", "http://", "https://"):
        CheckpointLoader.register_scheme(prefix, load_from_safe, force=True)
    # torchvision://, openmmlab:// and the like find a URL by a name, then call this.
    mmengine_checkpoint.load_from_http = load_from_safe


def weights_file(path: str) -> Path:
    """The file that mmengine reads for a path, an address, or a name of weights.

    Args:
        path: As of ``load_from`` and ``init_cfg``, such as torchvision://resnet18.

    Raises:
        FileNotFoundError: It cannot be downloaded, or nothing has the name.
        ValueError: It is in a storage that this suite does not read.
    """
    scheme, found, name = path.partition("://")
    if scheme in _ADDRESSES:
        addresses = _ADDRESSES[scheme]()
        name = get_deprecated_model_names().get(name, name)
        if name not in addresses:
            hint = nearest(name, addresses)
            raise FileNotFoundError(f"there are no weights of the name {path}; {hint}")
        # Without a server's name it is below mmengine's home.
        address = addresses[name]
        path = address if "://" in address else str(Path(_home(), address))
    elif found and scheme not in ("http", "https"):
        raise ValueError(
            f"weights {path}: what a training starts from is told by its hash, and "
            "files are hashed here; download it, and give the file."
        )
    return local_file(path)


def read_resumable(path: str | Path) -> dict:
    """Check that training can continue from a checkpoint.

    Returns:
        Its ``meta``: epoch, iteration, seed.

    Raises:
        UserError: It cannot be read, is damaged, or holds weights only.
    """
    checkpoint = _read_rest(path) if is_folder(path) else read_checkpoint(path)
    # Without a checksum beside it, those of the archive find what torch loads without
    # complaint: a file of full length whose content never reached the disk.
    if not checksum_file(path).is_file() and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
            damaged = path
        if damaged is not None:
            raise UserError(f"Checkpoint {path} is damaged; take another one.")
    if missing := {"state_dict", "optimizer", "meta"} - checkpoint.keys():
        raise UserError(
            f"Checkpoint {path} holds no {', '.join(sorted(missing))}, so training "
            "cannot continue from it; to start from its weights, use --cfg-options "
            f"load_from={path}."
        )
    return checkpoint["meta"]


def find_resumable(*folders: str | Path) -> tuple[Path | None, dict, list[str]]:
    """Find the newest checkpoint of a run that training can continue from.

    Args:
        *folders: Of the run, where checkpoints may be.

    Returns:
        The file or folder, None if there is none; its ``meta``; and for each newer one
        that was passed over a line that says why.
    """
    kinds = ("*.pth", f"*{SUFFIX}")
    files = [f for folder in folders for kind in kinds for f in Path(folder).glob(kind)]
    skipped = []
    for path in sorted(files, key=lambda file: file.stat().st_mtime, reverse=True):
        try:
            return path, read_resumable(path), skipped
        except UserError as error:
            skipped.append(f"skipped: {error}")
    return None, {}, skipped


def load_strictly(
    model: nn.Module, checkpoint: dict, path: str | Path, config: str | Path
) -> None:
    """Load the weights of a run's checkpoint, if they fit exactly.

    Args:
        model: Receives the weights.
        checkpoint: As read.
        path: Where it was read from, for the message.
        config: The model's, for the message.

    Raises:
        UserError: Names the first keys that are missing, unexpected, of another shape,
            or not finite, and how many there are.
    """
    weights = checkpoint.get("state_dict", checkpoint)
    if differences := _differences(model, weights):
        raise UserError(
            f"checkpoint {path} does not fit the model of {config}: "
            f"{'; '.join(differences)}. Use the config it was trained with."
        )
    parameters = dict(model.named_parameters())
    broken = [key for key, value in parameters.items() if not value.isfinite().all()]
    if broken:
        raise UserError(
            f"checkpoint {path}: {len(broken)} of {len(parameters)} weights are not "
            f"finite (first {broken[0]}): its training had diverged. Take an earlier "
            "one."
        )


def _differences(model: nn.Module, weights: dict) -> list[str]:
    if not all(isinstance(value, torch.Tensor) for value in weights.values()):
        return [f"expected weights by name, got {', '.join(list(weights)[:5])}"]
    weights = {re.sub(r"^module\.", "", key): value for key, value in weights.items()}
    own = model.state_dict()
    mismatched = [
        f"{key} ({_shape(weights[key])} in the checkpoint, {_shape(own[key])} here)"
        for key in own.keys() & weights.keys()
        if own[key].shape != weights[key].shape
    ]
    if mismatched:
        missing, unexpected = own.keys() - weights.keys(), weights.keys() - own.keys()
    else:
        # torch's own comparison: modules may rename the keys of their older versions.
        missing, unexpected = model.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    # The heads of intermediate supervision end with training.
    unexpected = [key for key in unexpected if not key.startswith(TRAINING_ONLY)]
    named = {"missing": missing, "unexpected": unexpected, "other shape": mismatched}
    return [
        f"{len(keys)} {kind} ({', '.join(sorted(keys)[:3])}"
        + (", ...)" if len(keys) > 3 else ")")
        for kind, keys in named.items()
        if keys
    ]


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"
