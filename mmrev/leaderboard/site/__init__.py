"""The records as a static site, which opens from disk and asks no network."""

from mmrev.leaderboard.site.pages import build

__all__ = ["build"]
