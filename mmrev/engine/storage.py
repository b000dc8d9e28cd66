"""Files that are either whole or not there.

mmengine writes a checkpoint with ``open(path, "wb")``: a full disk or a killed run
leaves half a file under the final name. :class:`AtomicBackend` writes beside the
target, flushes to the disk and renames, so that a reader only ever sees the old file
or the whole new one.

The file is an mmengine storage backend called ``atomic``. The line for a config is::

    default_hooks = dict(checkpoint=dict(type="mmrev.AtomicCheckpointHook"))

which stores checkpoints through it; ``tools/train.py`` does the same for configs that
name mmengine's own hook.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

__all__ = ["AtomicBackend", "use_atomic_files", "write_bytes"]


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


@register_backend("atomic", force=True)
class AtomicBackend(LocalBackend):
    """Local files, written atomically; reads are those of mmengine."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`write_bytes`."""
        write_bytes(filepath, bytes(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text; see :func:`write_bytes`."""
        write_bytes(filepath, obj.encode(encoding))


def use_atomic_files() -> None:
    """Make ``atomic`` the backend of every local path that names no other.

    Reaches what takes no ``backend_args``: dumped predictions, published models.
    """
    register_backend("local", AtomicBackend, force=True, prefixes="")
