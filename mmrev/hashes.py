"""Hashes of files and folders."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def file_sha256(path: str | Path) -> str:
    """Hash a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def files_below(folder: str | Path) -> list[Path]:
    """Every file of a folder, sorted."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def add_files(
    digest: Any, root: str | Path, files: Iterable[Path], most: int = -1
) -> None:
    """Add names below a folder, sizes and contents of files to a hash.

    Args:
        digest: of hashlib.
        root: the folder.
        files: of it, in the order that counts.
        most: bytes of each that are read; -1 reads all.
    """
    for path in files:
        with open(path, "rb") as file:
            start = file.read(most)
            size = os.fstat(file.fileno()).st_size
        digest.update(f"{path.relative_to(root).as_posix()}\0{size}\0".encode())
        digest.update(hashlib.sha256(start).digest())
