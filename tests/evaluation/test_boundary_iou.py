"""Boundary IoU, against its definition in pycocotools and against its authors' code."""

import contextlib
import copy
import io
import math

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_coco import EDGY, random_blobs, random_case
from test_coco import evaluated

from mmrev.evaluation.boundary_iou import boundary

ENGINE = "faster-coco-eval"
# The 12 statistics of random_blobs(seed) by bowenc0221/boundary-iou-api 37d2558
# (coco_instance_api, iouType 'boundary'). The first is of images of 345 x 460, where
# faster-coco-eval's own boundaries give an mAP of 0.3085.
BOUNDARY_IOU_API = {
    1: (
        *(0.3183993399339934, 0.6287128712871287, 0.30445544554455445),
        *(0.0, 0.25, 0.5172442244224422),
        *(0.2, 0.3875, 0.3875),
        *(0.0, 0.35, 0.6),
    ),
    10: (
        *(0.08836633663366336, 0.12623762376237624, 0.12623762376237624),
        *(0.0, 0.3499999999999999, -1.0),
        *(0.0, 0.175, 0.175),
        *(0.0, 0.35, -1.0),
    ),
}


def depth_of(height, width):
    return max(1, round(0.02 * math.sqrt(height**2 + width**2)))


def eroded(bits, depth):
    """Without what has a pixel of no mask, or none, in the square about it."""
    for axis in (0, 1):
        padding = [(depth, depth) if one == axis else (0, 0) for one in (0, 1)]
        padded = np.pad(bits, padding)
        length = bits.shape[axis]
        bits = np.min(
            [padded.take(range(s, s + length), axis) for s in range(2 * depth + 1)],
            axis=0,
        )
    return bits


def boundary_by_definition(code):
    bits = rle.decode(code)
    bits = bits - eroded(bits, depth_of(*bits.shape))
    return rle.encode(np.asfortranarray(bits))


class Oracle(COCOeval):
    """pycocotools, of whose IoU and the boundaries' the lesser counts."""

    def computeIoU(self, image, kind):
        areas = super().computeIoU(image, kind)
        if not len(areas):
            return areas
        kinds = [kind] if self.params.useCats else self.params.catIds
        true = [one for k in kinds for one in self._gts[image, k]]
        masks = true + [one for k in kinds for one in self._dts[image, k]]
        whole = [one["segmentation"] for one in masks]
        for one, code in zip(masks, whole, strict=True):
            one["segmentation"] = boundary_by_definition(code)
        edges = super().computeIoU(image, kind)
        for one, code in zip(masks, whole, strict=True):
            one["segmentation"] = code
        crowd = np.array([one["iscrowd"] for one in true], bool)
        return np.where(crowd, areas, np.minimum(areas, edges))


def reference(truth, found, max_dets, use_classes):
    found = [{k: v for k, v in one.items() if k != "bbox"} for one in found]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        run = Oracle(coco, coco.loadRes(found), "segm")
        run.params.maxDets = list(max_dets)
        run.params.useCats = int(use_classes)
        run.evaluate()
        run.accumulate()
    return run


def compare(cases):
    compared = lower = 0
    for seed, (truth, found) in enumerate(cases):
        if not found:
            continue  # which pycocotools refuses
        max_dets = (1, 10, 100, 300) if seed % 3 == 0 else (1, 10, 100)
        told_apart = seed % 4 != 0
        settings = dict(
            max_dets=max_dets, classes="told apart" if told_apart else "ignored"
        )
        curves = evaluated(truth, found, "boundary", engine=ENGINE, **settings)
        run = reference(truth, found, max_dets, told_apart)
        for key in ("precision", "recall", "scores"):
            np.testing.assert_allclose(
                *(getattr(curves, key), run.eval[key]), rtol=0, atol=1e-9, err_msg=key
            )
        masks = evaluated(truth, found, "segm", **settings)
        lower += masks.columns()["mAP"] > curves.columns()["mAP"]
        compared += 1
    return compared, lower


def test_random_data():
    compared, _ = compare(random_case(seed, masks=True) for seed in range(15))
    assert compared > 10
    compared, lower = compare(map(random_blobs, range(40)))
    assert compared > 30 and lower > 20  # else areas would do


@pytest.mark.slow
def test_much_random_data():
    compared, _ = compare(random_case(seed, masks=True) for seed in range(1000, 1200))
    assert compared > 140
    compared, lower = compare(map(random_blobs, range(1000, 1400)))
    assert compared > 300 and lower > 200


@pytest.mark.parametrize("seed", BOUNDARY_IOU_API)
def test_its_authors_figures(seed):
    truth, found = random_blobs(seed)
    columns = evaluated(truth, found, "boundary", engine=ENGINE).columns()
    figures = list(columns.values())
    np.testing.assert_allclose(figures, BOUNDARY_IOU_API[seed], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", EDGY)
def test_boundaries(size):
    rng = np.random.default_rng(size)
    masks = [np.ones(size, np.uint8), np.zeros(size, np.uint8)]
    for _ in range(4):
        top, left = (int(rng.integers(one)) for one in size)
        mask = np.zeros(size, np.uint8)
        mask[top : top + size[0] // 2 + 1, left : left + size[1] // 2 + 1] = 1
        mask[rng.random(size) < rng.choice([0, 0.01])] ^= 1
        masks.append(mask)
    for mask in masks:
        code = rle.encode(np.asfortranarray(mask))
        assert boundary(code)["counts"] == boundary_by_definition(code)["counts"]


def test_a_boundary_is_as_wide_as_the_paper_says():
    bits = rle.decode(boundary(rle.encode(np.ones((480, 640), np.uint8, order="F"))))
    assert bits[:16].all() and bits[:, :16].all() and bits[:, -16:].all()
    assert not bits[16:-16, 16:-16].any()


def test_nothing_found_and_nothing_to_find():
    truth, found = random_case(3, masks=True)
    empty = evaluated(truth, [], "boundary", engine=ENGINE).columns()
    assert empty["mAP"] == 0 and empty["AR@100"] == 0
    truth["annotations"] = []
    nothing = evaluated(truth, found, "boundary", engine=ENGINE)
    assert set(nothing.columns().values()) == {-1.0}


def test_its_own_masks_are_found_perfectly():
    truth, _ = random_case(12, masks=True, images=3, objects=6)
    for one in truth["annotations"]:
        one["iscrowd"] = 0
    coco = COCO()
    coco.dataset = truth
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    found = [
        {**one, "score": 0.5, "segmentation": coco.annToRLE(one)}
        for one in truth["annotations"]
    ]
    assert evaluated(truth, found, "boundary", engine=ENGINE).columns()["mAP"] == 1
