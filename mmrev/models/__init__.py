"""Backbones and what belongs to them; importing registers them."""

from mmrev.models.backbones import *  # noqa: F403
from mmrev.models.necks import *  # noqa: F403
from mmrev.models.stitching import *  # noqa: F403
from mmrev.models.supervision import *  # noqa: F403
