"""A file is either whole or not there."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_bytes"]


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
        # A temporary file is private to its owner; give the result the permissions
        # that open() would have given.
        temporary.chmod(0o666 & ~_umask())
        yield temporary
        _sync(temporary)
        temporary.replace(path)
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
