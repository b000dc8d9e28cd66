"""What backbones share whose training form becomes a smaller one."""

import warnings

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from mmrev.models.layers.faded import largest_fade
from mmrev.models.layers.keeping import may_keep


class Deployable:
    """Mixin for a staged backbone of faded activations and fusible convolutions.

    A family writes `_fuse`, which replaces its modules by fused ones, and sets
    `norm_eval`.
    """

    norm_eval: bool
    """Whether batch norms keep their running statistics in training."""
    deploy = False
    """Whether this is the deployed form."""
    _checked = False

    def _fuse(self) -> None:
        raise NotImplementedError

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Become the deployed form, which computes the same as the other in eval mode.

        Fusion is in fp64. What was built with ``deploy=True`` is left as it is.

        Raises:
            ValueError: if the fade of an activation is not finished.
        """
        if self.deploy:
            return
        if fade := largest_fade(self):
            raise ValueError(
                f"{type(self).__name__}: expected a finished fade (0) to deploy, got "
                f"{fade:.3g}. Train until it is, see mmrev.FadeHook."
            )
        self._fuse()
        self.deploy = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "Deployable":
        """Set the mode, frozen parts and statistics excepted; return self."""
        super().train(mode)
        self._checked = False
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the levels; in eval mode, warn if a fade is not finished."""
        # Once for every call of eval(): on a GPU the question makes it wait. A trace
        # has no fade's value to tell.
        if not (self.training or self._checked) and may_keep():
            self._checked = True
            if fade := largest_fade(self):
                warnings.warn(
                    f"{type(self).__name__} is evaluated at fade {fade:.3g}: this is "
                    "not the network that can be deployed, which has fade 0.",
                    stacklevel=2,
                )
        return super().forward(x)
