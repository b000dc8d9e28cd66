"""Checkpoints that many processes write and read together, each its part: folders.

Tensors that are spread over processes go through torch.distributed.checkpoint, which
gives them to another number of processes as well. All else is one file,
``rest.pth``. A list of checksums is written last.
"""

import io
import pickle
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, is_main_process
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from mmrev.atomic import remove_folder, write_bytes
from mmrev.checkpoints.checksums import IN_FOLDER, verify_checksum
from mmrev.checkpoints.files import load_checkpoint_file
from mmrev.hashes import file_sha256

__all__ = [
    "SUFFIX",
    "is_folder",
    "load_parts",
    "put",
    "read_folder",
    "read_rest",
    "stored",
    "write_folder",
]

SUFFIX = ".dcp"
REST = "rest.pth"
METADATA = ".metadata"  # torch's list of the tensors


def is_folder(path: str | Path) -> bool:
    """Whether a checkpoint is such a folder, by its name."""
    return Path(path).suffix == SUFFIX


def write_folder(
    path: str | Path, checkpoint: Mapping[str, Any], scalars: Iterable[tuple]
) -> None:
    """Write a checkpoint; called by all processes, each of which writes its part.

    It is written beside its place and takes it when it is whole.

    Args:
        path: of the folder; one that is there is replaced.
        checkpoint: nested dicts; what is no `DTensor` is that of the first process.
        scalars: places, as keys from the outermost, of tensors that have an axis only
            to be sharded.

    Raises:
        OSError: in all processes, if one of them cannot write; `path` is as it was.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.new.tmp")
    rest, parts = _split(checkpoint)
    rest["parts"] = {_key(place): list(place) for place in parts}
    rest["scalars"] = [_key(place) for place in scalars]
    try:
        _agree(lambda: is_main_process() and _empty(temporary))
        tensors = {_key(place): part for place, part in parts.items()}
        dcp.save(tensors, storage_writer=dcp.FileSystemWriter(temporary))
        lines = chain.from_iterable(_agree(lambda: _hashes(temporary, rest)))
        sums = "".join(lines)
        _agree(lambda: is_main_process() and _take_place(temporary, path, sums))
    except CheckpointException as error:
        raise _first(error) from error
    finally:
        if is_main_process():
            shutil.rmtree(temporary, ignore_errors=True)


def read_rest(path: str | Path) -> dict:
    """Read all of a checkpoint but the tensors that were spread, after a check.

    Returns:
        The checkpoint, None in the place of each of these; with ``parts``, their places
        by the key that they are stored under, and ``scalars``, some of these keys.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if it is incomplete or damaged, as of `verify_checksum`.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(
            f"Checkpoint {path} does not exist. Give the path of a folder."
        )
    verify_checksum(path)
    return load_checkpoint_file(Path(path, REST))


def read_folder(path: str | Path) -> dict:
    """Read a whole checkpoint in this process alone, as from one file.

    Raises:
        FileNotFoundError: as `read_rest`.
        ValueError: as `read_rest`.
    """
    checkpoint = read_rest(path)
    places, scalars = checkpoint.pop("parts"), set(checkpoint.pop("scalars"))
    kinds = stored(path)
    whole = {
        key: torch.empty(kinds[key].size, dtype=kinds[key].properties.dtype)
        for key in places
    }
    load_parts(path, whole, alone=True)
    for key, place in places.items():
        put(checkpoint, place, whole[key].view(()) if key in scalars else whole[key])
    return checkpoint


def stored(path: str | Path) -> dict[str, TensorStorageMetadata]:
    """Size and dtype of the tensors that were spread, by key."""
    return _Reader(path).read_metadata().state_dict_metadata


def load_parts(
    path: str | Path, tensors: dict[str, Tensor], alone: bool = False
) -> None:
    """Fill tensors, spread as they are now, with what was spread otherwise.

    Args:
        path: of the folder.
        tensors: by key; called by all processes, unless `alone`.
        alone: whether this process reads by itself.
    """
    try:
        dcp.load(tensors, storage_reader=_Reader(path), no_dist=alone)
    except CheckpointException as error:
        raise _first(error) from error


def put(checkpoint: dict, place: Sequence, value: Any) -> None:
    """Set what stands in nested dicts, at keys from the outermost."""
    *outer, last = place
    for key in outer:
        checkpoint = checkpoint[key]
    checkpoint[last] = value


def _split(value: Mapping, place: tuple = ()) -> tuple[dict, dict[tuple, DTensor]]:
    """Nested dicts with None for what is spread, and that by its place."""
    rest, parts = {}, {}
    for key, inner in value.items():
        here = (*place, key)
        if isinstance(inner, DTensor):
            rest[key], parts[here] = None, inner
        elif isinstance(inner, Mapping):
            rest[key], found = _split(inner, here)
            parts |= found
        else:
            rest[key] = inner
    return rest, parts


def _key(place: Sequence) -> str:
    return "/".join(map(str, place))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _hashes(folder: Path, rest: dict) -> list[str]:
    """Lines of the checksums: every process hashes what it wrote."""
    own = sorted(folder.glob(f"__{get_rank()}_*"))
    if is_main_process():
        torch.save(rest, folder / REST)
        own += [folder / REST, folder / METADATA]
    return [f"{file_sha256(file)}  {file.name}\n" for file in own]


def _take_place(temporary: Path, path: Path, sums: str) -> None:
    write_bytes(temporary / IN_FOLDER, sums.encode())
    if path.exists():  # a folder that is not empty cannot be replaced
        remove_folder(path)
    temporary.rename(path)


def _agree(act: Callable[[], Any]) -> list:
    """Do something in each process; raise in all what one of them raises.

    Returns:
        What each process gave.
    """
    result = failed = None
    try:
        result = act()
    except OSError as error:
        failed = error
    answers = all_gather_object((result, failed))
    for _, error in answers:
        if error is not None:
            raise error
    return [result for result, _ in answers]


def _first(error: CheckpointException) -> BaseException:
    """What one of the processes raised."""
    return next(iter(error.failures.values()))[0]


class _Reader(FileSystemReader):
    """torch's, which would run whatever the pickled list of tensors asks for."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> dcp_metadata.Metadata:
        file = Path(self.path, METADATA)
        try:
            metadata = _Unpickler(io.BytesIO(file.read_bytes())).load()
            names = {info.relative_path for info in metadata.storage_data.values()}
            if any(Path(name).name != name for name in names):
                raise pickle.UnpicklingError("it names files elsewhere")
        # On what is damaged an unpickler raises all kinds.
        except Exception as error:
            raise ValueError(f"Checkpoint {self.path} is damaged ({error}).") from None
        metadata.storage_meta = dcp_metadata.StorageMeta(load_id=self.load_id)
        return metadata


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if (module, name) in _PLAIN else None
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            found = getattr(torch, name)
        if found is None:
            raise pickle.UnpicklingError(f"it wants to build {module}.{name}")
        return found


_PLAIN = {
    ("pathlib", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            *("Metadata", "MetadataIndex", "StorageMeta", "TensorProperties"),
            *("TensorStorageMetadata", "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING"),
        )
    ),
}
"""What the list of tensors consists of."""
