"""The records as a static site, which opens from disk and asks no network."""

from .pages import build

__all__ = ["build"]
