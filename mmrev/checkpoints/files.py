"""Reading and writing checkpoint files without running what they contain."""

import pickle
import re
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import numpy as np
import safetensors.torch
import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from torch import Tensor

from mmrev.atomic import replacing


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


def load_checkpoint_file(path: str | Path) -> dict:
    """Read a checkpoint onto the CPU; nothing in it is executed.

    This is the one reader of the suite, also for what mmengine's runner has saved
    (weights, optimizer, message hub), so resuming and testing are as safe as loading
    pretrained weights.

    Args:
        path: a file of ``torch.save`` or a ``.safetensors`` file; or its http(s) URL,
            kept in torch.hub's cache.

    Returns:
        What was saved; for ``.safetensors`` the tensors by name.

    Raises:
        FileNotFoundError: if there is no such file, or it cannot be downloaded.
        ValueError: if the file is damaged, or holds objects other than tensors, plain
            containers and `SAFE_GLOBALS`.
    """
    file = _download(path) if re.match(r"https?://", str(path)) else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"Checkpoint {file} does not exist. Give the path or the URL of a file."
        )
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            content = torch.load(file, map_location="cpu", weights_only=True)
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
    except (EOFError, RuntimeError, SafetensorError) as error:
        raise ValueError(_damaged(file, error)) from None
    if not isinstance(content, dict):
        raise ValueError(
            f"Checkpoint {file}: expected a dict with tensors, got a "
            f"{type(content).__name__}. Save a state dict."
        )
    return content


def save_state_dict(state_dict: Mapping[str, Tensor], path: str | Path) -> None:
    """Write weights, so that `path` is either complete or untouched.

    Args:
        state_dict: tensors by name.
        path: a ``.safetensors`` file holds the tensors; any other one
            ``{'state_dict': state_dict}``, as OpenMMLab's loaders expect it.
    """
    path = Path(path)
    with replacing(path) as part:
        if path.suffix == ".safetensors":
            tensors = {key: value.contiguous() for key, value in state_dict.items()}
            safetensors.torch.save_file(tensors, part)
        else:
            torch.save({"state_dict": dict(state_dict)}, part)


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
    reason = str(error).strip().partition("\n")[0]
    return (
        f"Checkpoint {file} cannot be read as a PyTorch or safetensors file "
        f"({reason}). It may be incomplete; get it again."
    )
