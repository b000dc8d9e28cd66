"""A file is either whole or not there.

What is written goes beside the target, to the disk, and is renamed, so that a reader
only ever sees the old file or the whole new one.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["remove_folder", "remove_unfinished", "replacing", "write_bytes"]


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
