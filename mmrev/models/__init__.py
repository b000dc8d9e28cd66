"""Backbones and what belongs to them; importing registers them."""

from mmrev.models.backbones import *  # noqa: F403
