"""The embedded scenes on disk: composed at first use, then plain COCO and ADE20K.

Layout below the root, the one standard loaders read::

    images/{training,validation}/000000.png
    annotations/{training,validation}/000000.png    semantic map, 0 is background
    annotations/instances_{training,validation}.json      COCO, visible masks as RLE
    scenes.json                                 settings, file count and fingerprint

A root is composed beside its place and renamed into it, so that it is either whole or
absent; a lock file makes other processes wait for the one that composes.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock
from pycocotools import mask as rle

from mmrev.datasets.compose import SceneObject, bounding_box, compose_scene
from mmrev.datasets.sources import (
    CLASSES,
    PHOTOGRAPHS,
    SPLITS,
    load_digits,
    load_photographs,
)
from mmrev.hashes import add_files, files_below

# Part of the settings: raised when compose.py draws the same settings differently.
_VERSION = 1
_MANIFEST = "scenes.json"


@dataclass(frozen=True)
class SceneSettings:
    """What the scenes look like and how many there are.

    Attributes:
        num_training: training scenes.
        num_validation: validation scenes.
        size: side of the square scenes, in pixels.
        num_objects: fewest and most digits in a scene.
        digit_size: least and greatest longer side of an upright digit, in pixels.
        seed: of everything random.

    Raises:
        ValueError: a count or size is out of range.
    """

    num_training: int = 2000
    num_validation: int = 300
    size: int = 96
    num_objects: tuple[int, int] = (2, 4)
    digit_size: tuple[int, int] = (24, 34)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_objects", "digit_size"):
            pair = tuple(getattr(self, name))
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise ValueError(
                    f"scenes: {name} must be (least, greatest) with 0 < least <= "
                    f"greatest, got {pair}."
                )
            object.__setattr__(self, name, pair)
        for name in ("num_training", "num_validation"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"scenes: {name} must be at least 1, got {getattr(self, name)}."
                )
        if self.size < 2 * self.digit_size[1]:
            raise ValueError(
                "scenes: size must be at least twice the greatest digit_size "
                f"{self.digit_size[1]}, got {self.size}."
            )


def ensure_scenes(root: str | Path, settings: SceneSettings) -> str:
    """Make sure that `root` holds exactly the scenes of `settings`.

    Scenes of other settings, or with files missing, are composed anew. Several
    processes may call this at once.

    Returns:
        The fingerprint: a hash over every file's path and content.

    Raises:
        ValueError: `root` holds something else than scenes.
        ModuleNotFoundError: mlxtend or scikit-image is not installed.
    """
    root = Path(root).absolute()
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        manifest = _read_manifest(root)
        if manifest and manifest["settings"] == _describe(settings):
            # The manifest is one more.
            if len(files_below(root)) - 1 == manifest["num_files"]:
                return manifest["fingerprint"]
        elif root.is_dir() and not manifest and any(root.iterdir()):
            raise ValueError(
                f"scenes: {root} holds files that are not embedded scenes; choose "
                "another data_root or remove it."
            )
        partial = root.with_name(f".{root.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        print(f"Composing the embedded scenes into {root}", flush=True)
        fingerprint = _compose(partial, settings)
        if root.exists():
            shutil.rmtree(root)
        partial.rename(root)
        return fingerprint


def scene_rng(seed: int, split: str, *key: int) -> np.random.Generator:
    """Give the generator of one scene or crop, independent of all others."""
    return np.random.default_rng([seed, SPLITS.index(split), *key])


def _compose(root: Path, settings: SceneSettings) -> str:
    for split in SPLITS:
        for kind in ("images", "annotations"):
            (root / kind / split).mkdir(parents=True)
        coco = _empty_coco(split)
        for number, (photograph, image, objects) in enumerate(_scenes(split, settings)):
            name = f"{number:06d}.png"
            _write_png(root / "images" / split / name, image[..., ::-1])
            _write_png(root / "annotations" / split / name, _semantic_map(objects))
            coco["images"].append(
                {
                    "id": number + 1,
                    "file_name": name,
                    "height": settings.size,
                    "width": settings.size,
                    "photograph": photograph,
                }
            )
            for item in objects:
                coco["annotations"].append(
                    _coco_annotation(item, len(coco["annotations"]) + 1, number + 1)
                )
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(coco))
    files, digest = files_below(root), hashlib.sha256()
    add_files(digest, root, files)
    manifest = {
        "settings": _describe(settings),
        "num_files": len(files),
        "fingerprint": digest.hexdigest(),
    }
    (root / _MANIFEST).write_text(json.dumps(manifest, indent=2))
    return digest.hexdigest()


def _scenes(
    split: str, settings: SceneSettings
) -> Iterator[tuple[str, np.ndarray, list[SceneObject]]]:
    digits, photographs = load_digits(split), load_photographs(split)
    for number in range(getattr(settings, f"num_{split}")):
        yield compose_scene(
            digits,
            photographs,
            settings.size,
            settings.num_objects,
            settings.digit_size,
            scene_rng(settings.seed, split, number),
        )


def _semantic_map(objects: list[SceneObject]) -> np.ndarray:
    return sum(
        (item.mask * np.uint8(item.label + 1) for item in objects),
        np.zeros_like(objects[0].mask, np.uint8),
    )


def _empty_coco(split: str) -> dict:
    return {
        "info": {
            "description": f"mmrev embedded scenes, {split}: MNIST digits on "
            "photographs of scikit-image",
            "credits": {"digits": "MNIST, CC BY-SA 3.0", **PHOTOGRAPHS[split]},
        },
        "images": [],
        "annotations": [],
        "categories": [
            {"id": label + 1, "name": name} for label, name in enumerate(CLASSES)
        ],
    }


def _coco_annotation(item: SceneObject, number: int, image_id: int) -> dict:
    top, left, bottom, right = bounding_box(item.mask)
    encoded = rle.encode(np.asfortranarray(item.mask, np.uint8))
    return {
        "id": number,
        "image_id": image_id,
        "category_id": item.label + 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(np.count_nonzero(item.mask)),
        "segmentation": {
            "size": encoded["size"],
            "counts": encoded["counts"].decode(),
        },
        "iscrowd": 0,
        "digit": item.digit,
    }


def _write_png(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"scenes: could not write {path}; is the disk full?")


def _describe(settings: SceneSettings) -> dict:
    return json.loads(json.dumps({"version": _VERSION, **asdict(settings)}))


def _read_manifest(root: Path) -> dict | None:
    try:
        return json.loads((root / _MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
