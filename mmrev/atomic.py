"""A file is either whole or not there.

mmengine writes a checkpoint with ``open(path, "wb")``: a full disk or a killed run
leaves half a file under the final name. Here what is written goes beside the target,
to the disk, and is renamed, so that a reader only ever sees the old file or the whole
new one. `AtomicBackend` is an mmengine storage backend that does so.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = [
    "AtomicBackend",
    "remove_folder",
    "remove_unfinished",
    "replacing",
    "use_atomic_files",
    "write_bytes",
]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a file beside `path` that takes its place if the block succeeds.

    Args:
        path: Target; missing folders are made.

    Raises:
        OSError: The write failed; carries ``path``. What ``path`` held is unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
        temporary = Path(name)
        os.close(descriptor)
        yield temporary
        # A temporary file is private to its owner, as is what safetensors puts in its
        # place; give the result the permissions that open() would have given.
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        os.replace(temporary, path)
        # The rename itself reaches the disk with the folder. Some network file systems
        # refuse to sync a folder; the file is whole there all the same.
        with contextlib.suppress(OSError):
            _sync(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None:
            # write() reports no name; without one the user cannot know which disk.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, all of it or nothing; raises as `replacing`."""
    with replacing(path) as file:
        file.write_bytes(content)


def remove_unfinished(folder: str | Path, name: str) -> None:
    """Remove what killed processes have left of files that they were writing.

    Args:
        folder: of the files, or of the folders that take their place.
        name: theirs, or a glob.
    """
    for path in Path(folder).glob(f".{name}.*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_folder(path: str | Path) -> None:
    """Remove a folder, which is not seen half empty."""
    doomed = Path(path).with_name(f".{Path(path).name}.old.tmp")
    os.replace(path, doomed)
    shutil.rmtree(doomed)


class AtomicBackend(LocalBackend):
    """Local files, written atomically; reads are those of mmengine."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see `write_bytes`."""
        write_bytes(filepath, bytes(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text; see `write_bytes`."""
        write_bytes(filepath, obj.encode(encoding))


def use_atomic_files() -> None:
    """Make `AtomicBackend` that of every local path that names no other.

    Reaches what takes no ``backend_args``: dumped predictions, published models.
    """
    register_backend("local", AtomicBackend, force=True, prefixes="")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
