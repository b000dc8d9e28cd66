"""The schedule of coupled blocks: from ordinary weights to an invertible network.

Source: Dr2Net, arXiv 2401.04105 (dynamic fine-tuning).
"""

from collections.abc import Sequence

from mmengine.runner import Runner
from torch import Tensor, nn

from mmrev.engine.hooks.schedule import ScheduledHook
from mmrev.models.layers import COUPLINGS
from mmrev.registry import HOOKS

__all__ = ["CouplingHook"]


@HOOKS.register_module()
class CouplingHook(ScheduledHook):
    """Moves the coefficients a, b of every ``coupling='dual'`` through a training.

    At (1, 0) a network is the ordinary one, whose weights follow while a falls and b
    grows; with a + b = 1 the states keep their scale. The larger b is, the less an
    inversion keeps, and the peak of a run is that of its first steps: of the states'
    bytes all at b = 0, 31 % at .02, 17 % at .2, 9 % at .5 (Swin-V2-T, fp32, measured
    by ``tools/analysis/memory_modes.py bits``).

    Both are logged, as ``coupling/a`` and ``coupling/b``.

    Args:
        end: of `ScheduledHook`.
        to: a and b from then on.
        start: a and b of the first step.
        **settings: of `ScheduledHook`, its others.

    Raises:
        ValueError: on a setting outside its range.
    """

    absent = (
        "the model has no blocks of coupling='dual'; set "
        "model.backbone.coupling='dual', or remove the hook from custom_hooks."
    )
    late = "the weights have yet to learn what its end makes of them"

    def __init__(
        self,
        end: int,
        to: Sequence[float] = (0.5, 0.5),
        start: Sequence[float] = COUPLINGS["dual"],
        **settings,
    ):
        super().__init__(end, **settings)
        pairs = all(isinstance(p, Sequence) and len(p) == 2 for p in (start, to))
        if not pairs or not (
            0 <= to[0] <= start[0] <= 1 and 0 <= start[1] <= to[1] <= 1 and to[1]
        ):
            raise ValueError(
                "CouplingHook: start and to must be pairs a, b, of which a falls "
                "within 0..1 and b rises within 0..1 to more than 0, as (1, 0) and "
                f"(0.5, 0.5), got {start!r} and {to!r}; to invert is to divide by b."
            )
        self.start, self.to = tuple(start), tuple(to)

    def at(self, left: float) -> tuple[float, float]:
        """The coefficients a and b when so much of the way is left, from 1 to 0."""
        (a, b), (last_a, last_b) = self.start, self.to
        return left * a + (1 - left) * last_a, left * b + (1 - left) * last_b

    def find(self, model: nn.Module) -> list[Tensor]:
        """The coefficients."""
        return [
            module.coefficients
            for module in model.modules()
            if getattr(module, "coupling", None) == "dual"
            and hasattr(module, "coefficients")
        ]

    def move(self, buffer: Tensor, left: float) -> None:
        """Lower a, raise b."""
        a, b = self.at(left)
        buffer[0].clamp_(max=a)
        buffer[1].clamp_(min=b)

    def before_train(self, runner: Runner) -> None:
        """Find the coefficients.

        Raises:
            UserError: if there are none, or training ends before they arrive.
        """
        super().before_train(runner)
        # Asked for once: a GPU would be waited for each time.
        a, b = zip(*(buffer.tolist() for buffer in self._buffers), strict=True)
        self._begun = max(a), min(b)

    def before_train_iter(self, runner: Runner, *_, **__) -> None:
        """Move the coefficients; give the log those that are the least far."""
        super().before_train_iter(runner)
        a, b = self.at(self.left_in(runner))
        least_a, least_b = self._begun
        runner.message_hub.update_scalar("train/coupling/a", min(a, least_a))
        runner.message_hub.update_scalar("train/coupling/b", max(b, least_b))
