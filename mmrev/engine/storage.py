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

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmrev.atomic import write_bytes

__all__ = ["AtomicBackend", "use_atomic_files"]


@register_backend("atomic", force=True)
class AtomicBackend(LocalBackend):
    """Local files, written atomically; reads are those of mmengine."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes; see :func:`mmrev.atomic.write_bytes`."""
        write_bytes(filepath, bytes(obj))

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text; see :func:`mmrev.atomic.write_bytes`."""
        write_bytes(filepath, obj.encode(encoding))


def use_atomic_files() -> None:
    """Make ``atomic`` the backend of every local path that names no other.

    Reaches what takes no ``backend_args``: dumped predictions, published models.
    """
    register_backend("local", AtomicBackend, force=True, prefixes="")
