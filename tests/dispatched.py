"""Which of torch's operations a piece of code calls."""

from collections import Counter

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# On a GPU each of these makes the host wait; indexing by flags looks for their places.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "lift_fresh")


class Dispatched(TorchDispatchMode):
    """Counts operations while it is entered, in `counts`, by name."""

    def __init__(self):
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        if name in ("index", "index_put", "index_put_"):
            flags = (isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
            name = "nonzero" if any(flags) else name
        self.counts[name] += 1
        return operation(*args, **(kwargs or {}))

    def waits(self) -> int:
        """How often the host would wait for a GPU."""
        return sum(self.counts[name] for name in WAITING)
