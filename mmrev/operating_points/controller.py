"""Holding a latency budget at run time by changing the stitch."""

from collections.abc import Sequence

from mmrev.operating_points.costs import StitchCost, pareto_front


class LatencyController:
    """Chooses the stitch for the next frame from the time that the last one took.

    The machine's load is what a frame took over what its table says, averaged. A stitch
    that would exceed the budget under this load is left at once; a slower one is taken
    only after it would have fitted, with some room, for several frames in a row, so
    that a load at the border does not make the quality flicker.

    Example: ``backbone.set_stitch(controller.update(milliseconds))`` after each frame.

    Args:
        costs: of `stitch_costs`, measured on this machine; `pareto_front` is taken.
        budget_ms: largest latency of a frame, milliseconds.
        room: share of the budget that a slower stitch must leave free.
        patience: frames for which it must.
        memory: weight of the past in the average load, in [0, 1).

    Attributes:
        stitch: id for the next frame; at first the slowest that fits without load.
        load: the average.

    Raises:
        ValueError: on a setting outside its range, or a budget that no stitch meets.
    """

    def __init__(
        self,
        costs: Sequence[StitchCost],
        budget_ms: float,
        room: float = 0.1,
        patience: int = 10,
        memory: float = 0.7,
    ):
        if not 0 <= room < 1 or patience < 1 or not 0 <= memory < 1:
            raise ValueError(
                "LatencyController: expected room in [0, 1), patience >= 1 and memory "
                f"in [0, 1), got {room}, {patience} and {memory}."
            )
        self.front = pareto_front(costs)
        if not budget_ms >= self.front[0].latency_ms:
            raise ValueError(
                f"LatencyController: no stitch meets budget_ms={budget_ms}; the "
                f"fastest, {self.front[0].id}, takes {self.front[0].latency_ms:.4g}."
            )
        self.budget_ms = budget_ms
        self.room = room
        self.patience = patience
        self.memory = memory
        self.load = 1.0
        self._waited = 0
        self._rung = self._slowest(budget_ms)

    @property
    def stitch(self) -> int:
        """Id for the next frame."""
        return self.front[self._rung].id

    def update(self, latency_ms: float) -> int:
        """Take note of a frame.

        Args:
            latency_ms: that it took with `stitch`, milliseconds.

        Returns:
            `stitch` for the next frame; the fastest where none fits.

        Raises:
            ValueError: if the latency is not above 0.
        """
        if not latency_ms > 0:
            raise ValueError(
                f"LatencyController: latency_ms must be above 0, got {latency_ms}."
            )
        load = latency_ms / self.front[self._rung].latency_ms
        self.load = self.memory * self.load + (1 - self.memory) * load
        fitting = self._slowest(self.budget_ms / self.load)
        roomy = self._slowest((1 - self.room) * self.budget_ms / self.load)
        self._waited = self._waited + 1 if roomy > self._rung else 0
        if fitting < self._rung:
            self._rung = fitting
        elif self._waited >= self.patience:
            self._rung, self._waited = roomy, 0
        return self.stitch

    def _slowest(self, budget_ms: float) -> int:
        """The slowest rung within a budget; the fastest if there is none."""
        within = [cost.latency_ms <= budget_ms for cost in self.front]
        return max(sum(within) - 1, 0)
