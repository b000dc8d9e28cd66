"""A SHA-256 beside each checkpoint of a run, in the form of ``sha256sum -c``.

A checkpoint that is a folder, see `mmrev.checkpoints.folders`, has those of its files
in it.
"""

import hashlib
import re
from pathlib import Path

from mmengine.fileio import register_backend

from mmrev.atomic import remove_folder, write_bytes
from mmrev.errors import shortened
from mmrev.hashes import file_sha256
from mmrev.storage import AtomicBackend

__all__ = ["IN_FOLDER", "ChecksummedBackend", "checksum_file", "verify_checksum"]


IN_FOLDER = "SHA256SUMS"


def checksum_file(path: str | Path) -> Path:
    """Where the checksum of a checkpoint is."""
    return Path(f"{path}.sha256")


def verify_checksum(path: str | Path) -> bool:
    """Compare a checkpoint with its checksum.

    Args:
        path: Of a file or folder; of anything else there is no checksum.

    Returns:
        Whether it has one: a run that is killed after a checkpoint and before its
        checksum leaves none.

    Raises:
        ValueError: The file is another one than the checksum was taken of, or the
            checksum is none; or of a folder something is missing.
    """
    if Path(path).is_dir():
        _verify_folder(Path(path))
        return True
    beside = checksum_file(path)
    if not Path(path).is_file() or not beside.is_file():
        return False
    stated = re.match(rb"[0-9a-f]{64}\b", beside.read_bytes())
    if stated is None:
        raise ValueError(
            f"{beside} holds no SHA-256, so whether {path} is whole cannot be told; "
            "take another checkpoint, or remove that file if you trust this one."
        )
    if file_sha256(path) != stated[0].decode():
        raise ValueError(
            f"Checkpoint {path} is damaged: its SHA-256 is not the one in {beside}; "
            "take another one. If you have changed it yourself, remove that file."
        )
    return True


def _verify_folder(path: Path) -> None:
    try:
        lines = (path / IN_FOLDER).read_text().splitlines()
        stated = dict(reversed(line.split("  ", 1)) for line in lines)
        names = {file.name for file in path.iterdir()} - {IN_FOLDER}
        if unlisted := names - stated.keys():
            raise ValueError(f"{IN_FOLDER} lacks {shortened(sorted(unlisted))}")
        found = {name: file_sha256(path / name) for name in stated}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Checkpoint {path} is incomplete ({error}); take another one."
        ) from None
    if broken := [name for name in stated if found[name] != stated[name]]:
        raise ValueError(
            f"Checkpoint {path} is damaged: of {shortened(broken)} the SHA-256 is not "
            f"the one in {IN_FOLDER}; take another one."
        )


@register_backend("checksummed", force=True)
class ChecksummedBackend(AtomicBackend):
    """Local checkpoints, written atomically, each with its checksum beside it.

    Folders count as files that are written elsewhere.
    """

    def isfile(self, filepath: str | Path) -> bool:
        """Whether there is a checkpoint."""
        return Path(filepath).exists()

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, then their checksum; see `write_bytes`."""
        beside = checksum_file(filepath)
        # A run that is killed between the two must not leave the checksum of before.
        beside.unlink(missing_ok=True)
        super().put(obj, filepath)
        line = f"{hashlib.sha256(obj).hexdigest()}  {Path(filepath).name}\n"
        write_bytes(beside, line.encode())

    def remove(self, filepath: str | Path) -> None:
        """Remove a folder, or a file and its checksum."""
        if Path(filepath).is_dir():
            return remove_folder(filepath)
        checksum_file(filepath).unlink(missing_ok=True)
        return super().remove(filepath)
