"""Exact inversion: of a run of couplings only the last states and corrections are kept.

The forward pass builds autograd's ordinary graph, but what its nodes would save is
dropped. Going back, a coupling that is asked for its saved tensors runs its module
again; that gives these tensors, and the state that the coupling took the place of,
``old = (state - update) / gain`` (RevCol, arXiv 2212.11696, section 2.2), corrected by
what the forward pass saw that this rounds away. Gradients, parameters and hooks are
thus autograd's own, and every tensor that they see is the one that it would have kept.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Variable
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.weak import WeakTensorKeyDictionary

from mmrev.reversible import coupling
from mmrev.reversible.correction import Correction, fingerprint, is_dense
from mmrev.reversible.recompute import Dropped, refuse
from mmrev.reversible.replay import Replay, changed

# States of which a GPU may not yet have told how long their corrections are; of RevCol
# those of one column.
UNTOLD = 4


class Kept(NamedTuple):
    """A tensor that must stay as it was."""

    tensor: Tensor
    version: int
    name: str

    @classmethod
    def of(cls, tensor: Tensor, name: str) -> "Kept":
        """The tensor as it is now."""
        return cls(tensor.detach(), tensor._version, name)

    def get(self) -> Tensor:
        """The tensor, if it is as it was."""
        if self.tensor._version != self.version:
            raise changed("reverse", self.name)
        return self.tensor


# A state of the run by its number, or what came from outside.
Place = int | Kept


@dataclass
class Step:
    """A coupling that was taken; `needs`: which of its tensors require gradients."""

    module: nn.Module
    reads: list[Place]
    gain: Tensor
    old: Place | None
    shortcut: Tensor | None
    needs: list[bool]
    replay: Replay
    fingerprint: Tensor | None = None

    def take(
        self, reads: Sequence[Tensor], gain: Tensor, find: Callable
    ) -> tuple[Tensor, Tensor]:
        """The update and the state; `find` gives the old one, and takes the update."""
        update = coupling.update(self.module(*reads), reads, self.shortcut)
        old = find(update.detach())
        return update.detach(), coupling.forward(update, gain, old)


class Reversal:
    """The couplings of one forward pass.

    The graph's nodes hold this object, which lives and dies with them; it must
    therefore hold neither a node nor a tensor that has a graph.
    """

    def __init__(self):
        self._steps: list[Step] = []
        # States by number, which is that of the coupling that gave it: kept, rebuilt,
        # or to be found by a correction and the coupling that took its place.
        self._kept: dict[int, Kept] = {}
        self._rebuilt: dict[int, Tensor] = {}
        self._corrections: dict[int, Correction] = {}
        self._followers: dict[int, int] = {}
        self._untold: deque[int] = deque()
        self._numbers = WeakTensorKeyDictionary()
        self._faults: list[tuple[str, Tensor]] = []

    def couple(
        self,
        module: nn.Module,
        reads: Sequence[Tensor],
        gain: Tensor,
        old: Tensor | None,
        shortcut: Tensor | None = None,
        keep: bool = False,
    ) -> Tensor:
        """Compute a state, as `mmrev.reversible.couple`.

        Args:
            module: as there.
            reads: as there.
            gain: as there.
            old: as there.
            shortcut: as there.
            keep: whether something else keeps `old` anyway.
        """
        number, name = len(self._steps), type(module).__name__
        tensors = (*reads, gain, *([] if old is None else [old]))
        step = Step(
            module=module,
            reads=[self._place(tensor, f"what {name} read") for tensor in reads],
            gain=gain.detach(),
            old=None if old is None else self._place(old, f"the state before {name}"),
            shortcut=shortcut,
            needs=[tensor.requires_grad for tensor in tensors],
            replay=Replay("reverse", module, {"gain": gain.detach()}),
        )
        find = partial(self._find, number)
        dropped = Dropped("reverse", name, find, to_the_end=True)
        with dropped.keeping(*tensors):
            update, state = step.take(reads, gain, lambda _: old)
        if not state.requires_grad:
            return state
        step.fingerprint = fingerprint(update, state.detach())
        step.replay.forget_if_unused()
        self._steps.append(step)
        self._numbers[state] = number
        self._kept[number] = Kept.of(state, f"the state after {name}")
        free = isinstance(step.old, int) and step.old not in step.reads
        if free and not keep and is_dense(old):
            self._drop(step.old, number, update)
        return state

    def _place(self, tensor: Tensor, name: str) -> Place:
        number = self._numbers.get(tensor)
        # What was replaced is rebuilt after whoever reads it later runs again.
        if number is None or number in self._followers:
            return Kept.of(tensor, name)
        return number

    def _drop(self, number: int, follower: int, update: Tensor) -> None:
        """Make a correction of a state; let go of that which costs more."""
        old, state = self._kept[number].get(), self._kept[follower].tensor
        correction = Correction(old, state, update, self._steps[follower].gain)
        self._corrections[number] = correction
        self._followers[number] = follower
        self._untold.append(number)
        self._settle(UNTOLD if correction.is_late else 0)

    def _settle(self, but: int = 0) -> None:
        while len(self._untold) > but:
            number = self._untold.popleft()
            pays = self._corrections[number].pays()
            del (self._kept if pays else self._corrections)[number]

    def _find(self, number: int) -> None:
        if number == len(self._steps):  # its forward pass is not over
            refuse()
        self._settle()
        self._rerun(number)
        # Nothing further back reads the state that left this coupling.
        self._rebuilt.pop(number, None)

    def _get(self, place: Place) -> Tensor:
        """A state; what no later pass has left is rebuilt."""
        place = place if isinstance(place, Kept) else self._kept.get(place, place)
        if isinstance(place, Kept):
            return place.get()
        if place not in self._rebuilt:
            # The loss does not reach what followed, as when only a tap is used. The
            # module may compute otherwise without gradients.
            with saved_tensors_hooks(lambda _: None, lambda _: None):
                self._rerun(self._followers[place])
        return self._rebuilt[place]

    def _rerun(self, number: int) -> None:
        """Run a coupling again, and rebuild the state that it took the place of."""
        step, state = self._steps[number], self._get(number)

        def leaf(tensor: Tensor, needs: bool) -> Tensor:
            return tensor.detach().requires_grad_(needs)

        def find(update: Tensor) -> Tensor | None:
            self._note(number, fingerprint(update, state) != step.fingerprint)
            if step.old is None:
                return None
            if step.old in self._corrections:
                correction = self._corrections[step.old]
                self._rebuilt[step.old] = correction.old(state, update, step.gain)
            return leaf(self._get(step.old), step.needs[-1])

        values = [*map(self._get, step.reads), step.gain]
        *reads, gain = map(leaf, values, step.needs)
        with step.replay.again():
            step.take(reads, gain, find)

    def _note(self, number: int, fault: Tensor) -> None:
        """Have it looked at after the backward pass: a GPU is waited for but once."""
        name = f"{type(self._steps[number].module).__name__}, module {number + 1} of "
        self._faults.append((f"{name}the {len(self._steps)} that were called", fault))
        # It must not hold what it outlives.
        Variable._execution_engine.queue_callback(partial(_judge, self._faults))


def _judge(faults: list[tuple[str, Tensor]]) -> None:
    names, flags = [name for name, _ in faults], [flag for _, flag in faults]
    faults.clear()
    flags = torch.stack(flags).tolist() if flags else []
    for name, wrong in zip(names, flags, strict=True):
        if wrong:
            raise RuntimeError(
                f"memory='reverse': {name}, did not compute the same when it ran again "
                "for the backward pass, so that this step's gradients are wrong. It "
                "must be repeatable: it may draw random numbers from torch's default "
                "generators only, and read nothing that changes. Use memory='store'."
            )
