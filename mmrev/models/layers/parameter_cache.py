"""Values that follow from parameters alone, computed once while these stay the same."""

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from mmrev.models.layers.keeping import may_keep

Value = TypeVar("Value")


class ParameterCache:
    """Keeps what is computed from parameters until one of them changes.

    A change is seen by the parameter's version, address, dtype and device: optimizer
    steps, ``load_state_dict``, conversions, replaced parameters. Two leave no trace:
    the steps of torch's fused optimizers, and writing through ``parameter.data``, as
    mmengine's EMAHook swaps weights. The owner must therefore clear the cache whenever
    its mode is set, which every loop does between these and the next image.

    Nothing is kept where a gradient may reach the parameters, nor where `may_keep` says
    so. A copy or pickle of the owner gets an empty cache.
    """

    def __init__(self):
        self._closed = False
        self.clear()

    def close(self) -> None:
        """Keep nothing from now on, as where parameters come and go."""
        self._closed = True
        self.clear()

    def clear(self) -> None:
        """Forget the value."""
        self._key = self._value = self._sources = None

    def keeps(self, parameters: Sequence[Tensor]) -> bool:
        """Whether a value of these parameters would be kept now.

        Where a gradient may reach them, what is known is forgotten.
        """
        if self._closed or not may_keep():
            return False
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            self.clear()
            return False
        return not any(p.is_inference() for p in parameters)  # these count no versions

    def get(
        self,
        parameters: Sequence[Tensor],
        compute: Callable[[], Value],
        form: Hashable = None,
    ) -> Value:
        """The value, computed if it is not known.

        Args:
            parameters: all that the value depends on.
            compute: computes it.
            form: which of several values of these parameters; one is kept.

        Returns:
            The value; without a graph if no parameter needs one.
        """
        if not self.keeps(parameters):
            return compute()
        key = [(p.data_ptr(), p._version, p.dtype, p.device) for p in parameters]
        key.append(form)
        if key != self._key:
            # A tensor of inference mode could not be used for training later.
            with torch.inference_mode(False), torch.no_grad():
                self._value = compute()
            self._key = key
            # Kept alive, or another tensor could take an address.
            self._sources = [p.detach() for p in parameters]
        return self._value

    def __deepcopy__(self, memo: dict) -> "ParameterCache":
        return ParameterCache()

    def __reduce__(self) -> tuple:
        return ParameterCache, ()
