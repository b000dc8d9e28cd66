"""Random COCO panoptic data: crowds, void, empty images, segments at IoU 1/2."""

import json

import numpy as np
from PIL import Image

OFFSET = 1000  # of mmdet's ids: label + OFFSET * instance


def random_case(seed, images=None):
    """Annotations, their maps and predicted maps, with random ids in random order.

    Args:
        seed: decides everything.
        images: how many; 1 to 4 if None.

    Returns:
        The annotations as of a COCO file, and by image id the maps of true segment
        ids and of mmdet's predicted ids, (H, W) each.
    """
    rng = np.random.default_rng(seed)
    classes = rng.choice(200, rng.integers(1, 6), replace=False).tolist()
    things = rng.random(len(classes)) < 0.5
    truth = dict(
        info={},
        categories=[
            dict(id=one, name=f"class{one}", isthing=int(thing))
            for one, thing in zip(classes, things, strict=True)
        ],
        images=[],
        annotations=[],
    )
    true, predicted = {}, {}
    for image in rng.choice(
        10**6, images or rng.integers(1, 5), replace=False
    ).tolist():
        height, width = rng.integers(2, 40, 2).tolist()
        true[image] = np.zeros((height, width), np.int64)
        segments = []
        for number in rng.choice(2**24 - 1, _count(rng, 7), replace=False) + 1:
            true[image][_rectangle(rng, height, width)] = number
        for number in rng.permutation(np.unique(true[image][true[image] > 0])):
            label = int(rng.integers(len(classes)))
            segments.append(
                dict(
                    id=int(number),
                    category_id=classes[label],
                    iscrowd=int(things[label] and rng.random() < 0.25),
                    area=int((true[image] == number).sum()),
                    bbox=[0, 0, 1, 1],
                )
            )
        name = f"{image:012d}"
        truth["images"].append(
            dict(id=image, file_name=f"{name}.jpg", height=height, width=width)
        )
        truth["annotations"].append(
            dict(image_id=image, file_name=f"{name}.png", segments_info=segments)
        )
        labels = {one["id"]: classes.index(one["category_id"]) for one in segments}
        predicted[image] = _predicted(rng, true[image], labels, things)
    for key in ("images", "annotations"):
        truth[key] = [truth[key][i] for i in rng.permutation(len(truth[key]))]
    return truth, true, predicted


def write(truth, true, folder):
    """Write a file and its maps; returns the paths of both."""
    maps = folder / "panoptic"
    maps.mkdir(parents=True, exist_ok=True)
    for one in truth["annotations"]:
        ids = true[one["image_id"]]
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
        Image.fromarray(colours.astype(np.uint8)).save(maps / one["file_name"])
    (folder / "panoptic.json").write_text(json.dumps(truth))
    return str(folder / "panoptic.json"), str(maps)


def _predicted(rng, true, labels, things):
    void = len(things)
    found = np.full_like(true, void)
    for number in rng.permutation(list(labels)):
        mask, label = true == number, labels[number]
        kind = rng.choice(["half", "all", "moved", "twice as much", "missed"])
        if kind == "half":
            mask = _part(rng, mask, mask.sum() // 2)
        elif kind == "twice as much":
            # Half of it on what was void or other segments.
            mask = mask | _part(rng, ~mask, min(mask.sum(), (~mask).sum()))
        elif kind == "moved":
            mask = np.roll(mask, rng.integers(-2, 3, 2), (0, 1))
        elif kind == "missed":
            continue
        if rng.random() < 0.15:
            label = int(rng.integers(void))
        found[mask] = _identity(rng, label, things)
    for _ in range(_count(rng, 4)):
        label = int(rng.integers(void + 1))
        found[_rectangle(rng, *true.shape)] = _identity(rng, label, things)
    return found


def _identity(rng, label, things):
    thing = label < len(things) and things[label]
    return label + OFFSET * int(rng.integers(1, 300)) * int(thing)


def _part(rng, mask, number):
    part = np.zeros_like(mask)
    part[
        np.unravel_index(rng.permutation(np.flatnonzero(mask))[:number], mask.shape)
    ] = 1
    return part


def _rectangle(rng, height, width):
    top, left = rng.integers(height), rng.integers(width)
    return slice(top, rng.integers(top, height) + 1), slice(
        left, rng.integers(left, width) + 1
    )


def _count(rng, most):
    return int(rng.integers(most)) if rng.random() < 0.85 else 0
