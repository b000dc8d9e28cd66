"""Paths as text: configs, records and stored predictions name files by it."""

import re
from pathlib import Path

__all__ = ["below", "inside", "is_below", "leads_out"]

# An absolute path, a home, a drive or an address; a way up; what no name of a file has.
_OUT = re.compile(r"^[/\\~]|^\w+:|(^|[/\\])\.\.([/\\]|$)|\0")


def is_below(path: str, root: str) -> bool:
    """Whether a path is a folder or lies in it; names are taken whole.

    Args:
        path: Of a file or folder.
        root: The folder; every path lies in an empty one.
    """
    root = root.rstrip("/")
    return not root or path == root or path.startswith(f"{root}/")


def below(path: str, root: str) -> str:
    """Return a path without the folder that it lies in; another path as it is."""
    if not root or not is_below(path, root):
        return path
    return path[len(root.rstrip("/")) :].lstrip("/")


def leads_out(name: str) -> bool:
    """Whether a name, written by others, may be of something outside its folder."""
    return _OUT.search(name) is not None


def inside(path: str | Path, *folders: str | Path) -> bool:
    """Whether a file lies in one of some folders, links followed.

    Args:
        path: of the file.
        folders: which may be links themselves.
    """
    found = Path(path).resolve()
    return any(found.is_relative_to(Path(folder).resolve()) for folder in folders)
