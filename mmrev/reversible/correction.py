"""What the inversion of a coupling rounds away, so that it can be put back.

``state = update + gain * old`` is rounded, and so is the estimate of `old` that the
inverse gives. In the forward pass both are known. Their distance in steps of floating
point, the difference of the two patterns of bits as integers, is kept: mostly -1, 0 or
1, for which 2 bits an element do. The fourth value stands for a distance in one byte,
in a list in the order of the elements; one of its values, for a distance in full, in a
second list.

A GPU is not waited for: how long the lists are it tells while it works on what was
asked of it since. Until then a correction takes the memory of a state.
"""

import torch
from torch import Tensor

from mmrev.reversible import coupling

INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
# Of the 2 bits, of which 0, 1, 2 stand for -1, 0, 1; of the byte, else -127 to 127.
ESCAPE, FAR, NEAR = 3, -128, 127
# Bytes, of new memory on a CPU; on a GPU it is more.
ALIGNMENT = 64


class Correction:
    """What is kept of a state that can be found from the one that took its place.

    Args:
        old: the state, dense.
        state: what took its place.
        update: of the coupling that gave `state`.
        gain: of that coupling.
    """

    def __init__(self, old: Tensor, state: Tensor, update: Tensor, gain: Tensor):
        self._nbytes = old.nbytes
        self._layout = dict(size=old.size(), stride=old.stride(), dtype=old.dtype)
        distance = _bits(self._estimate(state, update, gain))
        torch.sub(_bits(old), distance, out=distance)
        count = distance.numel()
        codes = distance.new_zeros(4 * -(-count // 4), dtype=torch.uint8)
        codes[:count] = (distance + 1).clamp_(-1, ESCAPE).bitwise_and_(ESCAPE)
        one, two, three, four = codes.view(4, -1)
        self._packed = one.add(two, alpha=4).add_(three, alpha=16).add_(four, alpha=64)
        self._distance: Tensor | None = distance
        self._lists: tuple[Tensor, Tensor] | None = None
        self._lengths: list[int | None] = [None, None]
        self.is_late = is_late(old.device)
        if not self.is_late:
            return
        far = distance.clamp(-NEAR, NEAR).sub_(distance)
        lengths = torch.stack([_escapes(codes).count_nonzero(), far.count_nonzero()])
        self._told = torch.get_device_module(old.device).Event()
        self._coming = lengths.to("cpu", non_blocking=True)
        self._told.record()

    def finish(self) -> int:
        """Make the lists; return the bytes that the correction takes."""
        if self._lists is None:
            if self.is_late:
                self._told.synchronize()
                self._lengths = self._coming.tolist()
            escapes = self._distance[_where(_escapes(self._codes()), self._lengths[0])]
            near = escapes.clamp(-NEAR, NEAR)
            is_far = near - escapes
            near = near.masked_fill_(is_far.bool(), FAR).to(torch.int8)
            far = escapes[_where(is_far, self._lengths[1])]
            self._lists, self._distance = (near, far), None
        return sum(part.nbytes for part in (self._packed, *self._lists))

    def pays(self) -> bool:
        """Whether to keep this and not the state: to undo it takes room for a while."""
        return 4 * self.finish() < 3 * self._nbytes

    def old(self, state: Tensor, update: Tensor, gain: Tensor) -> Tensor:
        """The state that is not kept; the arguments must be what they were."""
        self.finish()
        near, far = self._lists
        old = self._estimate(state, update, gain)
        values, codes = _bits(old), self._codes()
        distance = codes[: values.numel()].to(values.dtype).sub_(1)
        escapes = near.to(values.dtype)
        escapes[_where(near == FAR, self._lengths[1])] = far
        distance[_where(_escapes(codes), self._lengths[0])] = escapes
        values.add_(distance)
        return old

    def _estimate(self, state: Tensor, update: Tensor, gain: Tensor) -> Tensor:
        out = torch.empty_strided(**self._layout, device=state.device)
        return coupling.inverse(state, update, gain, out)

    def _codes(self) -> Tensor:
        shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=self._packed.device)
        return (self._packed >> shifts[:, None]).bitwise_and_(ESCAPE).flatten()


def fingerprint(update: Tensor, state: Tensor) -> Tensor:
    """A sum over an update's bits, 0-dim, in which a change or another order shows.

    Each is weighted with the bits of the state that came of it, made odd; it wraps.
    """
    bits = update.view(INTEGERS[update.element_size()])
    # The high half by itself, as a sign, would be lost where it wraps.
    mixed = (bits >> 4 * update.element_size()).bitwise_xor_(bits)
    values = (state.view(INTEGERS[state.element_size()]) | 1).mul_(mixed)
    return values.sum(dtype=torch.promote_types(values.dtype, torch.int32))


def is_late(device: torch.device) -> bool:
    """Whether a device tells what it computes later than it is asked for it."""
    return device.type != "cpu"


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor is contiguous, in the one or the other order, and aligned.

    Kernels round otherwise where a tensor does not begin as new memory does.
    """
    orders = torch.contiguous_format, torch.channels_last
    return tensor.data_ptr() % ALIGNMENT == 0 and any(
        tensor.is_contiguous(memory_format=order) for order in orders
    )


def _bits(tensor: Tensor) -> Tensor:
    """A dense tensor's elements in the order of memory, as integers; a view."""
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(INTEGERS[tensor.element_size()])


def _escapes(codes: Tensor) -> Tensor:
    """Where the codes are escapes: 4, or else 0."""
    # A comparison takes several times as long on a CPU.
    return (codes + 1).bitwise_and_(ESCAPE + 1)


def _where(mask: Tensor, count: int | None) -> Tensor:
    """Indices of what is not 0; their number unknown, a GPU is waited for."""
    if count is None:
        return mask.nonzero()[:, 0]
    return torch.nonzero_static(mask, size=count)[:, 0]
