"""An activation that fades away while a network trains.

Sources: the deep training strategy of VanillaNet (arXiv 2305.12972, section 3.1) and
the scaler of ReduceNet (ohmydroid/reducenet @1d89127).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FadedReLU(nn.Module):
    """``fade * relu(x) + (1 - fade) * x``: a leaky ReLU of slope ``1 - fade``.

    ReLU at fade 1, where it starts, and the identity at fade 0. The fade is a buffer,
    so that a checkpoint tells how far it went; `mmrev.FadeHook` lowers it.
    """

    fade: Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("fade", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same."""
        # Reading the fade as a number instead would make a GPU wait at every layer.
        return torch.lerp(x, F.relu(x), self.fade.to(x.dtype))


def largest_fade(model: nn.Module) -> float:
    """The largest fade in a model; 0 if no activation is left, or none has a value.

    Args:
        model: any module. On the meta device fades have no values.
    """
    fades = (m.fade for m in model.modules() if isinstance(m, FadedReLU))
    return max((fade.item() for fade in fades if not fade.is_meta), default=0.0)
