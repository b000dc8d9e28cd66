"""How alike two representations of the same images are: unbiased linear CKA, streamed.

Sources: Kornblith et al., arXiv 1905.00414 (CKA); Song et al., Journal of Machine
Learning Research 13 (2012), 1393-1434 (the unbiased HSIC); Nguyen et al., arXiv
2010.15327 (its means over batches).
"""

import math

import torch
from torch import Tensor

__all__ = ["FEWEST", "Alignment", "gram", "hsic"]

FEWEST = 4
"""Images of a batch, below which the unbiased HSIC is not defined."""
# Features of an image that are taken to fp64 at a time.
_PART = 1 << 18
# Of the dtype's rounding: what varies by less, over its length, is constant.
_ROUNDINGS = 16


def gram(values: Tensor) -> Tensor:
    """Inner products of the representations of all pairs of images, in fp64.

    The mean of the images is taken off first, which changes nothing of `hsic` but its
    rounding.

    Args:
        values: (N, ...), of which all but the first dimension are features.

    Returns:
        (N, N); zeros if the images differ by no more than rounding.
    """
    energy, products = 0.0, 0.0
    for part in values.flatten(1).split(_PART, dim=1):
        part = part.double()
        energy = energy + part.square().sum()
        part = part - part.mean(0)
        products = products + part @ part.mT
    rounding = torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0
    if products.trace() <= (_ROUNDINGS * rounding) ** 2 * energy:
        return torch.zeros_like(products)
    return products


def hsic(one: Tensor, other: Tensor) -> float:
    """The unbiased estimator of the dependence of two representations, HSIC_1.

    Args:
        one: of `gram`, (N, N).
        other: of the same images.

    Raises:
        ValueError: with less than `FEWEST` images.
    """
    count = len(one)
    if count < FEWEST:
        raise ValueError(
            f"hsic: expected {FEWEST} images or more in a batch, got {count}. Take "
            "larger batches."
        )
    one, other = (products - products.diag().diag() for products in (one, other))
    rows, others = one.sum(0), other.sum(0)
    within = (one * other).sum()
    apart = rows.sum() * others.sum() / ((count - 1) * (count - 2))
    shared = 2 * (rows @ others) / (count - 2)
    return float((within + apart - shared) / (count * (count - 3)))


class Alignment:
    """CKA of two representations, from batches of images.

    It is ``HSIC(K, L) / sqrt(HSIC(K, K) * HSIC(L, L))`` of the means of `hsic` over the
    batches. Three numbers a batch are kept.
    """

    def __init__(self):
        self._batches: list[tuple[float, float, float]] = []

    def add(self, one: Tensor, other: Tensor) -> None:
        """Take a batch, as of `hsic`."""
        pairs = ((one, other), (one, one), (other, other))
        self._batches.append(tuple(hsic(*pair) for pair in pairs))

    @property
    def count(self) -> int:
        """Batches so far."""
        return len(self._batches)

    @property
    def value(self) -> float | None:
        """CKA; None if it is undefined, as of a representation that is constant.

        Of independent representations it is 0 on average, and may be below.
        """
        return _ratio(self._batches)

    @property
    def error(self) -> float | None:
        """Standard error of the value, leaving out each batch in turn (jackknife).

        None with less than two batches, or if one of these values is undefined.
        """
        count, batches = self.count, self._batches
        values = [_ratio(batches[:i] + batches[i + 1 :]) for i in range(count)]
        if count < 2 or None in values:
            return None
        mean = sum(values) / count
        spread = sum((value - mean) ** 2 for value in values)
        return math.sqrt((count - 1) / count * spread)


def _ratio(batches: list[tuple[float, float, float]]) -> float | None:
    across, one, other = map(sum, zip(*batches, strict=True)) if batches else (0,) * 3
    # The estimator of what is never negative may be; nan is neither.
    if not (one > 0 and other > 0):
        return None
    return across / math.sqrt(one * other)
