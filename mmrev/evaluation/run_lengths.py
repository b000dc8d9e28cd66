"""Whether run-length codes are what pycocotools' C code may be given.

That code trusts them: runs that sum up to more than the image make it write beyond its
memory. The form is COCO's: each run in characters of 5 bits and one that tells whether
more follow, as the difference from the run before the last from the fourth on.
"""

from collections.abc import Sequence

import numpy as np

__all__ = ["refuse_malformed"]

_FIRST = ord("0")
_MORE, _NEGATIVE = 0x20, 0x10
# 7 characters hold 35 bits, and no run of a mask that fits into memory is as long.
_MOST_CHARACTERS = 7


def refuse_malformed(codes: Sequence[bytes], pixels: np.ndarray) -> None:
    """Refuse codes that are not those of a mask.

    Args:
        codes: run-length codes, N.
        pixels: height times width of each one's image, (N,).

    Raises:
        ValueError: tells which code, counted from 0, and what is wrong with it.
    """
    lengths = np.array([len(code) for code in codes], np.int64)
    _refuse(lengths == 0, "it is empty")
    if not len(codes):
        return
    values = np.frombuffer(b"".join(codes), np.uint8).astype(np.int64) - _FIRST
    mask = np.repeat(np.arange(len(codes)), lengths)
    foreign = (values < 0) | (values > 0x3F)
    _refuse(_any(foreign, mask, len(codes)), "it has a character of another alphabet")
    last = (values & _MORE) == 0
    ends = np.cumsum(lengths) - 1
    _refuse(~last[ends], "its last run is not complete")
    runs, characters = _runs(values, last)
    mask = mask[last]
    too_long = characters > _MOST_CHARACTERS
    _refuse(_any(too_long, mask, len(codes)), "it has a run of more than 35 bits")
    runs = _summed(runs, mask)
    _refuse(_any(runs < 0, mask, len(codes)), "it has a negative run")
    total = np.zeros(len(codes), np.int64)
    np.add.at(total, mask, runs)
    for number in np.flatnonzero(total != pixels)[:1]:
        raise ValueError(
            f"run-length code {number}: expected runs of {pixels[number]} pixels in "
            f"all, got {total[number]}"
        )


def _refuse(wrong: np.ndarray, what: str) -> None:
    for number in np.flatnonzero(wrong)[:1]:
        raise ValueError(f"run-length code {number}: {what}")


def _any(flags: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """Whether a flag is set, by mask."""
    return np.bincount(mask[flags], minlength=count) > 0


def _runs(values: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join the characters of each run: its number, and how many characters it has."""
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    characters = ends - starts + 1
    place = np.arange(len(values)) - np.repeat(starts, characters)
    # Longer ones are refused; here they must only not overflow.
    shift = 5 * np.minimum(place, _MOST_CHARACTERS)
    runs = np.add.reduceat((values & 0x1F) << shift, starts)
    negative = (values[ends] & _NEGATIVE) > 0
    sign = np.int64(1) << (5 * np.minimum(characters, _MOST_CHARACTERS))
    return np.where(negative, runs - sign, runs), characters


def _summed(runs: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Undo the differences: of a mask, the first run alone, the odd, the even ones."""
    starts = np.flatnonzero(np.diff(mask, prepend=-1))
    place = np.arange(len(runs)) - np.repeat(starts, np.diff(starts, append=len(runs)))
    chain = 3 * mask + np.where(place == 0, 0, 2 - place % 2)
    order = np.argsort(chain, kind="stable")
    sums, chain = np.cumsum(runs[order]), chain[order]
    heads = np.flatnonzero(np.diff(chain, prepend=-1))
    before = np.where(heads > 0, sums[heads - 1], 0)
    sums -= np.repeat(before, np.diff(heads, append=len(sums)))
    restored = np.empty_like(sums)
    restored[order] = sums
    return restored
