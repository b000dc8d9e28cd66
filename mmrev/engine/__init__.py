"""What a training consists of beside models and data; importing registers it."""

from mmrev.engine.hooks import *  # noqa: F403
from mmrev.engine.loops import *  # noqa: F403
from mmrev.engine.optimizers import *  # noqa: F403
from mmrev.engine.strategies import *  # noqa: F403
