"""mmengine's files, written atomically.

mmengine writes a checkpoint with ``open(path, "wb")``: a full disk or a killed run
leaves half a file under the final name.
"""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmrev.atomic import write_bytes

__all__ = ["AtomicBackend", "use_atomic_files"]


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
