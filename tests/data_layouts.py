"""Tiny generated data in the standard COCO, Objects365, ADE20K and ImageNet layouts.

Nothing here reads the network; the images are noise with coloured rectangles.
"""

import json
from pathlib import Path

import numpy as np
from mmdet.datasets import CocoDataset, CocoPanopticDataset, Objects365V2Dataset
from PIL import Image

SIZES = [(96, 64), (64, 96), (80, 80), (96, 72)]  # width, height


def make_all(root: Path) -> None:
    """Write every layout under ``root/data``."""
    make_coco(root)
    make_objects365(root)
    make_ade20k(root)
    make_imagenet(root)
    make_imagenet(root, "imagenet21k")


def make_coco(root: Path) -> None:
    """data/coco: {train,val}2017/*.jpg, annotations/instances_{train,val}2017.json."""
    base = root / "data/coco"
    classes = CocoDataset.METAINFO["classes"]
    for split in ("train2017", "val2017"):
        names = [f"{i + 1:012d}.jpg" for i in range(len(SIZES))]
        _save_images(base / split, names)
        _save_json(base / f"annotations/instances_{split}.json", names, classes)


def make_coco_panoptic(root: Path) -> None:
    """Beside `make_coco`: annotations/panoptic_val2017.json and its maps, a folder."""
    base = root / "data/coco/annotations"
    classes = CocoPanopticDataset.METAINFO["classes"]
    things = len(CocoPanopticDataset.METAINFO["thing_classes"])
    images, annotations = [], []
    (base / "panoptic_val2017").mkdir(parents=True)
    for image_id, (width, height) in enumerate(SIZES, start=1):
        name = f"{image_id:012d}"
        ids = np.full((height, width), 256 * image_id)
        ids[:2] = 0  # void
        for number, (x, y, w, h) in enumerate(_boxes(width, height), start=1):
            ids[y : y + h, x : x + w] = 70_000 * number
        segments = [
            # Stuff about two things, of which the second is a crowd in one image.
            _segment(ids, 256 * image_id, things + image_id, 0),
            _segment(ids, 70_000, image_id, 0),
            _segment(ids, 140_000, image_id, int(image_id == 1)),
        ]
        colours = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
        maps = base / "panoptic_val2017"
        Image.fromarray(colours.astype(np.uint8)).save(maps / f"{name}.png")
        images.append(
            dict(id=image_id, file_name=f"{name}.jpg", width=width, height=height)
        )
        annotations.append(
            dict(image_id=image_id, file_name=f"{name}.png", segments_info=segments)
        )
    categories = [
        dict(id=i, name=name, isthing=int(i <= things))
        for i, name in enumerate(classes, start=1)
    ]
    (base / "panoptic_val2017.json").write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )


def _segment(ids: np.ndarray, number: int, category: int, crowd: int) -> dict:
    rows, columns = np.nonzero(ids == number)
    return dict(
        id=number,
        category_id=category,
        iscrowd=crowd,
        area=len(rows),
        bbox=[
            *(int(columns.min()), int(rows.min())),
            *(int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1),
        ],
    )


def make_objects365(root: Path) -> None:
    """data/Objects365/Obj365_v2: {train,val}/patch*/*.jpg, annotations/*.json."""
    base = root / "data/Objects365/Obj365_v2"
    classes = Objects365V2Dataset.METAINFO["classes"]
    for split in ("train", "val"):
        names = [f"patch{i}/objects365_v2_{i:08d}.jpg" for i in range(len(SIZES))]
        _save_images(base / split, names)
        _save_json(
            base / f"annotations/zhiyuan_objv2_{split}.json",
            [f"images/v2/{name}" for name in names],
            classes,
        )


def make_ade20k(root: Path) -> None:
    """data/ade/ADEChallengeData2016: {images,annotations}/{training,validation}."""
    base = root / "data/ade/ADEChallengeData2016"
    rng = np.random.default_rng(0)
    for split in ("training", "validation"):
        names = [f"ADE_{split[:3]}_{i + 1:08d}" for i in range(len(SIZES))]
        _save_images(base / "images" / split, [f"{name}.jpg" for name in names])
        folder = base / "annotations" / split
        folder.mkdir(parents=True)
        for name, (width, height) in zip(names, SIZES, strict=True):
            labels = np.zeros((height, width), np.uint8)  # 0 is "other", ignored
            for x, y, w, h in _boxes(width, height):
                labels[y : y + h, x : x + w] = rng.integers(1, 151)
            Image.fromarray(labels).save(folder / f"{name}.png")


def make_imagenet(root: Path, name: str = "imagenet") -> None:
    """data/NAME: {train,val}/<class>/*.JPEG, listed in meta/{train,val}.txt."""
    base = root / "data" / name
    (base / "meta").mkdir(parents=True)
    for split in ("train", "val"):
        names = [f"n{i:08d}/{i}.JPEG" for i in range(len(SIZES))]
        _save_images(base / split, names)
        lines = [f"{name} {label}\n" for label, name in enumerate(names)]
        (base / f"meta/{split}.txt").write_text("".join(lines))


def _boxes(width: int, height: int) -> list[tuple[int, int, int, int]]:
    return [
        (4, 4, width // 2, height // 2),
        (width // 3, height // 3, width // 2, height // 3),
    ]


def _save_images(folder: Path, names: list[str]) -> None:
    rng = np.random.default_rng(len(names))
    for name, (width, height) in zip(names, SIZES, strict=True):
        pixels = rng.integers(0, 128, (height, width, 3), np.uint8)
        for x, y, w, h in _boxes(width, height):
            pixels[y : y + h, x : x + w] += rng.integers(0, 128, 3, np.uint8)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, format="JPEG")


def _save_json(path: Path, file_names: list[str], classes: tuple[str, ...]) -> None:
    images, annotations = [], []
    for image_id, (name, (width, height)) in enumerate(
        zip(file_names, SIZES, strict=True), start=1
    ):
        images.append(dict(id=image_id, file_name=name, width=width, height=height))
        if image_id == len(SIZES):
            continue  # one image without objects: DINO keeps it, Cascade drops it
        for x, y, w, h in _boxes(width, height):
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=1 + len(annotations) % len(classes),
                    bbox=[x, y, w, h],
                    area=w * h,
                    segmentation=[outline],
                    iscrowd=0,
                )
            )
    categories = [dict(id=i, name=name) for i, name in enumerate(classes, start=1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(dict(images=images, annotations=annotations, categories=categories))
    )
