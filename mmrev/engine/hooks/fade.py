"""The schedule of faded activations.

Sources: VanillaNet (arXiv 2305.12972, section 3.1; huawei-noah/VanillaNet @6aaf731,
main.py: linear by epoch, cosine as an option) and ReduceNet (ohmydroid/reducenet
@1d89127, main.py: cosine by iteration).
"""

from torch import Tensor, nn

from mmrev.engine.hooks.schedule import ScheduledHook
from mmrev.models.layers import FadedReLU
from mmrev.registry import HOOKS

__all__ = ["FadeHook"]


@HOOKS.register_module()
class FadeHook(ScheduledHook):
    """Lowers the fade of every faded activation in a model from 1 to 0.

    Args:
        end: of `ScheduledHook`, as the others.
    """

    absent = (
        "the model has no faded activation (it may be deployed already); remove the "
        "hook from custom_hooks."
    )
    late = "what is not faded cannot be deployed"

    def find(self, model: nn.Module) -> list[Tensor]:
        """The fades."""
        return [m.fade for m in model.modules() if isinstance(m, FadedReLU)]

    def move(self, buffer: Tensor, left: float) -> None:
        """Lower a fade to what is left."""
        buffer.clamp_(max=left)
