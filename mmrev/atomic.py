"""A file is either whole or not there."""

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["write_bytes"]


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write ``content`` to ``path``, all of it or nothing.

    Args:
        path: Target; missing folders are made.
        content: The whole new content.

    Raises:
        OSError: The write failed; carries ``path``. What ``path`` held is unchanged.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False
        ) as file:
            temporary = file.name
            # NamedTemporaryFile is private to its owner; give the result the
            # permissions that open() would have given.
            os.chmod(temporary, 0o666 & ~_umask())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            # write() reports no name; without one the user cannot know which disk.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    # The rename itself reaches the disk with the folder. Some network file systems
    # refuse to sync a folder; the file is whole there all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
