"""Reading and writing checkpoint files without running what they contain."""

import json
import pickle
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Literal
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from torch import Tensor

from mmrev.atomic import replacing
from mmrev.limits import limit

# Where a .safetensors file of ours keeps what the run said of itself.
_META = "mmrev.meta"


def _history_statistic(owner: object, name: str) -> object:
    """Stand in for ``getattr``, by which HistoryBuffer pickles its own statistics."""
    if owner is HistoryBuffer and name in ("current", "max", "mean", "min"):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f"GLOBAL builtins.getattr of {owner!r}, {name!r}")


# All that torch.load may build besides tensors and plain containers: numpy numbers and
# arrays, under the module names of numpy 1 and 2, mmengine's log history, and the
# arguments that many trainers keep (VanillaNet's); a Namespace only holds values.
SAFE_GLOBALS = [
    Namespace,
    HistoryBuffer,
    (_history_statistic, "builtins.getattr"),
    np.dtype,
    np.ndarray,
    *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"},
    *(
        (function, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name, function in (
            ("_reconstruct", np.zeros(0).__reduce__()[0]),
            ("scalar", np.float64(0).__reduce__()[0]),
        )
    ),
]


def load_checkpoint_file(
    path: str | Path, weights: Literal["read", "mapped"] = "read"
) -> dict:
    """Read a checkpoint onto the CPU; nothing in it is executed.

    This is the one reader of the suite, also for what mmengine's runner has saved
    (weights, optimizer, message hub), so resuming and testing are as safe as loading
    pretrained weights.

    Args:
        path: a file of ``torch.save`` or a ``.safetensors`` file; or its http(s) URL,
            kept in torch.hub's cache.
        weights: 'mapped' leaves those of ``torch.save`` on the disk until they are
            looked at, for who wants the rest.

    Returns:
        What was saved; for ``.safetensors`` the tensors by name, of a run's weights
        under ``state_dict``, beside their ``meta``.

    Raises:
        FileNotFoundError: if there is no such file, or it cannot be downloaded.
        ValueError: if the file is damaged, or holds objects other than tensors, plain
            containers and `SAFE_GLOBALS`.
    """
    file = local_file(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"Checkpoint {file} does not exist. Give the path or the URL of a file."
        )
    if file.suffix == ".safetensors":
        return _load_safetensors(file)
    try:
        _refuse_packed(file)
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            # Files of before torch 1.6 are no archives.
            mapped = weights == "mapped" and zipfile.is_zipfile(file)
            content = torch.load(file, "cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise ValueError(_damaged(file, error)) from None
        raise ValueError(
            f"Checkpoint {file}: expected tensors and plain values only, but it wants "
            f"to build {wanted[1]}, which could run code. If you trust it, keep only "
            "the weights, in an environment with nothing to lose: "
            "c = torch.load(SRC, weights_only=False); "
            "torch.save({'model': c['model']}, DST)."
        ) from None
    # On what is damaged torch's unpickler raises all kinds.
    except Exception as error:
        raise ValueError(_damaged(file, error)) from None
    if not isinstance(content, dict):
        raise ValueError(
            f"Checkpoint {file}: expected a dict with tensors, got a "
            f"{type(content).__name__}. Save a state dict."
        )
    return content


def _refuse_packed(file: Path) -> None:
    """Refuse an archive that unpacks to more than it has; torch packs nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        size = sum(part.file_size for part in archive.infolist())
    most = limit(file.stat().st_size)
    if size > most:
        raise ValueError(f"it says to unpack to {size:,} bytes of {most:,}")


def save_state_dict(
    state_dict: Mapping[str, Tensor], path: str | Path, meta: Mapping | None = None
) -> None:
    """Write weights, so that `path` is either complete or untouched.

    Args:
        state_dict: tensors by name.
        path: a ``.safetensors`` file holds the tensors; any other one
            ``{'state_dict': state_dict}``, as OpenMMLab's loaders expect it.
        meta: of the run that they are from, values that JSON knows.
    """
    path = Path(path)
    with replacing(path) as part:
        if path.suffix == ".safetensors":
            # The format refuses tensors that share memory.
            tensors = {key: value.clone() for key, value in state_dict.items()}
            tensors = {key: value.contiguous() for key, value in tensors.items()}
            strings = None
            if meta is not None:
                strings = {"format": "pt", _META: json.dumps(meta)}
            safetensors.torch.save_file(tensors, part, strings)
        else:
            content = {"state_dict": dict(state_dict)}
            if meta is not None:
                content["meta"] = dict(meta)
            torch.save(content, part)


def _load_safetensors(file: Path) -> dict:
    try:
        tensors = safetensors.torch.load_file(file)
        with safetensors.safe_open(file, "pt") as opened:
            strings = opened.metadata() or {}
        meta = json.loads(strings[_META]) if _META in strings else None
    # On what is damaged a reader raises all kinds.
    except Exception as error:
        raise ValueError(_damaged(file, error)) from None
    if _META not in strings:
        return tensors
    if not isinstance(meta, dict):
        raise ValueError(
            f"Checkpoint {file}: expected its metadata {_META} to be an object of "
            f"JSON, got a {type(meta).__name__}. Convert the original once more."
        )
    return {"state_dict": tensors, "meta": meta}


def local_file(path: str | Path) -> Path:
    """The file of a path, or that of a URL once it is in torch.hub's cache.

    Raises:
        FileNotFoundError: if it cannot be downloaded.
    """
    return _download(path) if re.match(r"https?://", str(path)) else Path(path)


def _download(url: str) -> Path:
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if is_main_process() and not file.is_file():
        try:
            with replacing(file) as part:
                torch.hub.download_url_to_file(url, str(part))
        except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
            raise FileNotFoundError(
                f"Checkpoint {url} cannot be downloaded ({error}). Get it elsewhere "
                f"and put it at {file}, or give the path of a file in place of the URL."
            ) from error
    barrier()
    return file


def _damaged(file: Path, error: Exception) -> str:
    # Without torch's advice to load it all the same.
    reason = str(error).rpartition("WeightsUnpickler error:")[2]
    reason = reason.strip().partition("\n")[0]
    return (
        f"Checkpoint {file} cannot be read as a PyTorch or safetensors file "
        f"({reason}). It may be incomplete; get it again."
    )
