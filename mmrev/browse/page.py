"""The page of ``tools/browse.py``: what it shows of an image, and its pictures.

It needs no other file and no network. Photographs are JPEG, label maps PNG with a
palette; the browser draws boxes, names and outlines over them, sharp at any size.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader
from mmengine.structures import BaseDataElement
from PIL import Image

from mmrev.errors import UserError

__all__ = [
    "Card",
    "Confusion",
    "Mark",
    "Pane",
    "Report",
    "Table",
    "new_card",
    "outline",
    "overlay",
    "prediction",
    "render",
]

# Longest side of a picture in the page, pixels.
LONGEST = 1000


@dataclass(frozen=True)
class Mark:
    """A box over a picture; place and size in percent of the picture.

    Attributes:
        left: of the box, from the picture's left.
        top: of the box, from the picture's top.
        width: of the box.
        height: of the box.
        kind: names its style.
        text: stands at its top.
        title: shown on hovering.
        outline: of its mask, an SVG path in pixels of the picture.
    """

    left: float
    top: float
    width: float
    height: float
    kind: str
    text: str
    title: str
    outline: str = ""


@dataclass(frozen=True)
class Pane:
    """One of the pictures of an image: what is drawn over the photograph.

    Attributes:
        title: above it.
        marks: boxes.
        overlay: a label map, PNG as data URI.
        names: of its regions: text, left and top in percent.
    """

    title: str
    marks: Sequence[Mark] = ()
    overlay: str = ""
    names: Sequence[tuple[str, float, float]] = ()


@dataclass
class Card:
    """An image in the page.

    Attributes:
        name: of its file.
        width: of its pictures, pixels.
        height: of its pictures, pixels.
        photo: JPEG as data URI.
        score: how wrong it is, 0..1; None where that is not known.
        note: about its errors.
        kinds: of its errors.
        panes: its pictures.
        legend: name and colour of each class of its label maps.
    """

    name: str
    width: int
    height: int
    photo: str
    score: float | None = None
    note: str = ""
    kinds: Sequence[str] = ()
    panes: Sequence[Pane] = ()
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Table:
    """A table; a cell is a text, or a text and the length of a bar behind it, 0..1."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | tuple[str, float]]]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        columns: names of the predicted classes.
        rows: name of the true class; for each column its part, 0..1.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]


@dataclass(frozen=True)
class Report:
    """What the page shows.

    Attributes:
        facts: name and value of figures of all images.
        tables: of errors or classes.
        cards: the images, in the page's order.
        kinds: short and long name, and meaning, of the kinds of errors by key.
        confusion: of segmentation.
    """

    facts: Sequence[tuple[str, str]]
    tables: Sequence[Table]
    cards: Sequence[Card]
    kinds: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    confusion: Confusion | None = None


def new_card(loaded: Mapping[str, Any]) -> Card:
    """The card of an image, with its photograph.

    Args:
        loaded: by the pipeline of a data set: ``img``, (H, W, 3) BGR or (H, W), and
            ``img_path``.
    """
    pixels = np.atleast_3d(loaded["img"]).clip(0, 255).astype(np.uint8)
    # Grey has one channel, aerial photographs can have more than three.
    pixels = pixels[..., [2, 1, 0]] if pixels.shape[2] >= 3 else pixels[..., [0, 0, 0]]
    photo = Image.fromarray(pixels)
    photo.thumbnail((LONGEST, LONGEST))
    name = Path(str(loaded.get("img_path", ""))).name
    return Card(name, *photo.size, _data_uri(photo, "jpeg", quality=85))


def prediction(sample: BaseDataElement, name: str) -> BaseDataElement:
    """What a model predicts of an image.

    Args:
        sample: the model's.
        name: of the prediction.

    Raises:
        UserError: it predicts something else.
    """
    if name not in sample:
        found = [key for key in sample.all_keys() if key.startswith("pred")]
        raise UserError(
            f"expected a model whose test gives {name}, as the ground truth suggests, "
            f"got {', '.join(found) or 'none'}; leave out the checkpoint."
        )
    return sample.get(name)


def overlay(labels: np.ndarray, colours: Sequence[str]) -> str:
    """A label map as PNG, a data URI, no larger than pictures are.

    Args:
        labels: (H, W), indices of `colours`; 255 is transparent.
        colours: hexadecimal.
    """
    # 255 becomes 0, and the palette needs no entry for what is not used.
    picture = Image.fromarray(labels.astype(np.uint8) + np.uint8(1))
    # Nearest neighbours, so that no label appears between two others.
    factor = min(1, LONGEST / max(picture.size))
    size = [max(1, round(side * factor)) for side in picture.size]
    picture = picture.resize(size, Image.Resampling.NEAREST)
    palette = ["#000000", *colours]
    picture.putpalette([part for c in palette for part in bytes.fromhex(c[1:])])
    return _data_uri(picture, "png", transparency=0, optimize=True)


def outline(mask: np.ndarray) -> str:
    """The border of a mask as an SVG path, in pixels of the picture.

    Args:
        mask: (H, W), of the whole image.
    """
    factor = min(1, LONGEST / max(mask.shape))
    borders, _ = cv2.findContours(
        np.ascontiguousarray(mask, np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    parts = []
    for border in borders:
        points = cv2.approxPolyDP(border, 1, True)[:, 0] * factor
        parts.append("M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points) + "Z")
    return "".join(parts)


def render(report: Report, name: str, checkpoint: str | None, subtitle: str) -> str:
    """The page as text.

    Args:
        report: its content.
        name: of the config.
        checkpoint: whose predictions it shows.
        subtitle: which images.
    """
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        autoescape=True, loader=loader, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        report=report, name=name, checkpoint=checkpoint, subtitle=subtitle
    )


def _data_uri(picture: Image.Image, kind: str, **options) -> str:
    file = BytesIO()
    picture.save(file, format=kind, **options)
    return f"data:image/{kind};base64,{b64encode(file.getvalue()).decode()}"
