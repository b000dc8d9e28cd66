"""Run-length codes of forged predictions, before pycocotools' C code sees them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmrev.evaluation.run_lengths import refuse_malformed


def encoded(rng, height, width) -> bytes:
    """A mask of blobs or noise, empty or full now and then."""
    mask = rng.random((height, width)) < rng.choice([0, 0.01, 0.5, 0.99, 1])
    if rng.random() < 0.5:
        block = 1 + int(rng.integers(9))
        mask = np.kron(mask, np.ones((block, block), bool))[:height, :width]
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def decoded(code: bytes) -> list[int]:
    """The runs, one character after the other."""
    runs, value, shift = [], 0, 0
    for character in code:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError("alphabet")
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            value -= (1 << shift) if bits & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("not complete")
    return runs


def sound(code: bytes, pixels: int) -> bool:
    try:
        runs = decoded(code)
    except ValueError:
        return False
    return bool(runs) and min(runs) >= 0 and sum(runs) == pixels


def accepted(codes, pixels) -> bool:
    try:
        refuse_malformed(codes, np.array(pixels, np.int64))
    except ValueError:
        return False
    return True


def test_all_codes_of_pycocotools_are_sound():
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(1, 200, (600, 2)).tolist(), [1, 70_000], [3000, 2000]]
    codes = [encoded(rng, *size) for size in sizes]
    refuse_malformed(codes, np.prod(sizes, axis=1))
    refuse_malformed([], np.empty(0, np.int64))


def test_altered_codes_are_refused_exactly_when_they_are_malformed():
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(3000):
        size = rng.integers(1, 40, 2).tolist()
        code = bytearray(encoded(rng, *size))
        for _ in range(int(rng.integers(1, 3))):
            place = int(rng.integers(len(code)))
            kind = rng.integers(3)
            if kind == 0:
                code[place] = int(rng.integers(40, 120))
            elif kind == 1:
                code.insert(place, int(rng.integers(48, 112)))
            elif len(code) > 1:
                del code[place]
        wanted = sound(bytes(code), size[0] * size[1])
        refused += not wanted
        # Between sound ones, which it must not be mistaken for.
        others = [encoded(rng, 7, 5), bytes(code), encoded(rng, 3, 3)]
        assert accepted(others, [35, size[0] * size[1], 9]) == wanted, bytes(code)
    assert 1000 < refused < 3000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"", "it is empty"),
        (b"0 ", "a character of another alphabet"),
        (b"0Q", "its last run is not complete"),
        (b"0" + b"P" * 7 + b"1", "a run of more than 35 bits"),
        (b"0" + b"P" * 30 + b"1", "a run of more than 35 bits"),
        (b"8O", "a negative run"),
        (b"05", "expected runs of 4 pixels in all, got 5"),
        (b"00000000", "expected runs of 4 pixels in all, got 0"),
    ],
)
def test_what_is_wrong_is_named(code, message):
    with pytest.raises(ValueError, match=f"run-length code 1: .*{message}"):
        refuse_malformed([b"04", code], np.array([4, 4]))
