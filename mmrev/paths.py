"""Paths as text: configs, records and stored predictions name files by it."""

__all__ = ["below", "is_below"]


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
