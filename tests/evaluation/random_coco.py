"""Random COCO data: crowds, ties, empty images and classes, areas on bin edges."""

import numpy as np
from pycocotools import mask as rle

EDGES = (32, 96)  # sides of a square between small, medium and large
# Heights and widths of images in which boundaries are hard to get right.
EDGY = [
    *((45, 60), (345, 460)),  # 0.02 of the diagonal lies between two pixels
    *((75, 100), (375, 500)),  # likewise, and the lower one is even
    *((4, 94), (94, 4), (1, 5), (1, 1)),  # no wider than two boundaries
    *((48, 64), (61, 47), (130, 97)),
]


def random_case(seed, masks=False, images=None, objects=None, detections=None):
    """A COCO file and detections for it, both in random order with random ids.

    Args:
        seed: decides everything.
        masks: whether there are polygons, crowds and predicted masks.
        images: how many; 1 to 5 if None.
        objects: annotations an image; up to 7 if None, and images without any.
        detections: as objects; up to 24.
    """
    rng = np.random.default_rng([seed, masks])
    height, width = (220, 240) if rng.random() < 0.4 else rng.integers(20, 140, 2)
    height, width = int(height), int(width)
    image_ids = rng.choice(10**6, images or rng.integers(1, 6), replace=False).tolist()
    class_ids = rng.choice(100, rng.integers(1, 5), replace=False).tolist()
    steps = rng.choice([2, 5, 10, 10**6])  # few of which make many equal scores
    annotations, found = [], []
    for image in image_ids:
        for _ in range(_count(rng, objects, 8)):
            box = _box(rng, height, width)
            crowd = int(rng.random() < 0.15)
            one = dict(
                image_id=image,
                category_id=int(rng.choice(class_ids)),
                bbox=box,
                iscrowd=crowd,
                area=box[2] * box[3]
                if rng.random() < 0.7
                else float(rng.choice([0, 500, 1023.5, 1024, 9216, 9216.5])),
            )
            if rng.random() < 0.1:
                one["ignore"] = 1  # which pycocotools overwrites by iscrowd
            if masks:
                one["segmentation"] = _segmentation(rng, height, width, box, crowd)
            annotations.append(one)
        for _ in range(_count(rng, detections, 25)):
            near = [one for one in annotations if one["image_id"] == image]
            box, label = _box(rng, height, width), int(rng.choice(class_ids))
            if near and rng.random() < 0.6:
                one = near[rng.integers(len(near))]
                box = one["bbox"] + rng.choice([0, 0, 0.5, 3]) * rng.normal(size=4)
                label = one["category_id"] if rng.random() < 0.8 else label
            # The corners are float32, as detectors give them.
            left, top = np.float32(np.maximum(box[:2], 0))
            right, bottom = np.float32([left, top]) + np.float32(
                np.maximum(box[2:], 0.5)
            )
            one = dict(
                image_id=image,
                category_id=label,
                bbox=[
                    float(left),
                    float(top),
                    float(right) - float(left),
                    float(bottom) - float(top),
                ],
                score=float(np.float32(rng.integers(steps + 1) / steps)),
            )
            if masks:
                one["segmentation"] = _bitmap(rng, height, width, one["bbox"])
            found.append(one)
    ids = 1 + rng.permutation(3 * len(annotations))[: len(annotations)]
    for one, number in zip(annotations, ids.tolist(), strict=True):
        one["id"] = number
    truth = dict(
        info={},
        images=[
            dict(id=i, width=width, height=height, file_name="") for i in image_ids
        ],
        annotations=annotations,
        categories=[dict(id=i, name=f"class{i}") for i in class_ids],
    )
    return truth, [found[i] for i in rng.permutation(len(found))]


def random_blobs(seed):
    """Ellipses and found ones a few pixels off: boundaries miss each other first.

    Args:
        seed: decides everything.

    Returns:
        A COCO file and detections for it.
    """
    rng = np.random.default_rng([seed, 2])
    size = EDGY[seed % len(EDGY)] if seed % 2 else rng.integers(40, 220, 2).tolist()
    annotations, found = [], []
    for number in range(1, rng.integers(2, 12)):
        centre, radii = rng.uniform(0, size), rng.uniform(1, np.divide(size, 2) + 1)
        bits = _ellipse(size, centre, radii)
        one = dict(
            image_id=int(rng.integers(1, 3)),
            category_id=int(rng.integers(1, 3)),
            bbox=[0, 0, 1, 1],  # which must not matter
            segmentation=_coded(bits),
        )
        crowd, area = int(rng.random() < 0.15), float(bits.sum())
        annotations.append(dict(one, id=number, iscrowd=crowd, area=area))
        for _ in range(rng.integers(4)):
            moved = centre + rng.integers(-4, 5, 2), radii + rng.integers(-2, 3, 2)
            mask = _coded(_ellipse(size, *moved))
            score = float(np.float32(rng.random()))
            found.append(dict(one, segmentation=mask, score=score))
    truth = dict(
        info={},
        images=[
            dict(id=i, height=size[0], width=size[1], file_name="") for i in (1, 2)
        ],
        annotations=annotations,
        categories=[dict(id=i, name=f"class{i}") for i in (1, 2)],
    )
    return truth, found


def _ellipse(size, centre, radii):
    rows, columns = np.ogrid[: size[0], : size[1]]
    radii = np.maximum(radii, 0.5)
    distance = ((rows - centre[0]) / radii[0]) ** 2
    return distance + ((columns - centre[1]) / radii[1]) ** 2 <= 1


def _coded(bits):
    code = rle.encode(np.asfortranarray(bits, np.uint8))
    return dict(size=list(bits.shape), counts=code["counts"].decode())


def _count(rng, wanted, most):
    if wanted is not None:
        return wanted
    return int(rng.integers(most)) if rng.random() < 0.85 else 0


def _box(rng, height, width):
    if rng.random() < 0.25:
        side = rng.choice(EDGES)
        w, h = (side, side) if rng.random() < 0.5 else (side * 2, side / 2)
        w += rng.choice([0, 0, 1e-3, -1e-3])
    else:
        w, h = rng.uniform(1, 0.8 * width), rng.uniform(1, 0.8 * height)
    if rng.random() < 0.5:
        w, h = round(w), round(h)
    w, h = min(w, width), min(h, height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    if rng.random() < 0.5:
        x, y = int(x), int(y)
    return [float(x), float(y), float(w), float(h)]


def _segmentation(rng, height, width, box, crowd):
    if crowd and rng.random() < 0.5:  # run lengths that are not compressed
        bits = rle.decode(_bitmap(rng, height, width, box)).ravel(order="F")
        changes = np.flatnonzero(np.diff([0, *bits.tolist()]))
        runs = np.diff([0, *changes, bits.size]).tolist()
        return dict(size=[height, width], counts=runs)
    if crowd or rng.random() < 0.3:
        return _bitmap(rng, height, width, box)
    return [_polygon(rng, *box) for _ in range(rng.integers(1, 3))]


def _polygon(rng, x, y, w, h):
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 8)))
    radii = rng.uniform(0.25, 0.5, len(angles))
    points = [
        x + w / 2 + w * radii * np.cos(angles),
        y + h / 2 + h * radii * np.sin(angles),
    ]
    return np.transpose(points).ravel().round(2).tolist()


def _bitmap(rng, height, width, box):
    left, top = min(int(box[0]), width - 1), min(int(box[1]), height - 1)
    bits = np.zeros((height, width), np.uint8, order="F")
    region = bits[top : top + max(1, int(box[3])), left : left + max(1, int(box[2]))]
    region[:] = rng.random(region.shape) < 0.8
    return _coded(bits)
