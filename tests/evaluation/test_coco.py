"""The COCO protocol, against pycocotools to the last bit."""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from random_coco import random_case

from mmrev.evaluation.coco import Detections, column_names, evaluate

MANY = (1, 10, 100, 300, 1000)


def reference(truth, found, iou_type, max_dets=(1, 10, 100), use_classes=True):
    """pycocotools on the data as they are."""
    found = [
        {key: value for key, value in one.items() if key != "bbox" or iou_type == key}
        for one in copy.deepcopy(found)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        run = COCOeval(coco, coco.loadRes(found), iou_type)
        run.params.maxDets = list(max_dets)
        run.params.useCats = int(use_classes)
        run.evaluate()
        run.accumulate()
        if max_dets == (1, 10, 100):
            run.summarize()
    return run


def columns_of(found):
    classes = sorted({one["category_id"] for one in found})
    labels = [classes.index(one["category_id"]) for one in found]
    return Detections(
        images=[one["image_id"] for one in found],
        counts=[1] * len(found),
        classes=classes,
        labels=np.array(labels, int),
        boxes=np.array([one["bbox"] for one in found]).reshape(-1, 4),
        scores=np.array([one["score"] for one in found]),
        masks=[one.get("segmentation") for one in found],
    )


def evaluated(truth, found, iou_type="bbox", **settings):
    ids = [category["id"] for category in truth["categories"]]
    return evaluate(truth, columns_of(found), iou_type, ids, **settings)


def assert_same(curves, run):
    for key in ("precision", "recall", "scores"):
        np.testing.assert_array_equal(getattr(curves, key), run.eval[key], err_msg=key)
    if hasattr(run, "stats") and len(run.stats):
        columns = list(curves.columns().values())
        assert columns[:12] == run.stats.tolist()


def compare(seeds, iou_type, engine="hotcoco", **shape):
    compared = 0
    for seed in seeds:
        truth, found = random_case(seed, masks=iou_type == "segm", **shape)
        if not found:
            continue  # which pycocotools refuses
        max_dets = MANY if seed % 3 == 0 else (1, 10, 100)
        told_apart = seed % 4 != 0
        curves = evaluated(
            truth,
            found,
            iou_type,
            engine=engine,
            max_dets=max_dets,
            classes="told apart" if told_apart else "ignored",
        )
        assert_same(curves, reference(truth, found, iou_type, max_dets, told_apart))
        compared += 1
    return compared


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_random_data(iou_type):
    assert compare(range(60), iou_type) > 50
    assert compare(range(10), iou_type, engine="pycocotools") > 5


def test_more_than_100_and_300_detections():
    shape = dict(images=2, objects=40)
    assert compare(range(4), "bbox", detections=150, **shape) == 4
    assert compare(range(3), "bbox", detections=450, **shape) == 3


@pytest.mark.slow
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_much_random_data(iou_type):
    assert compare(range(1000, 2000), iou_type) > 700
    shape = dict(images=3, objects=60, detections=450)
    assert compare(range(1000, 1100), iou_type, **shape) == 100


def test_standard_columns_do_not_depend_on_the_others():
    truth, found = random_case(5, images=2, objects=40, detections=450)
    standard = evaluated(truth, found).columns()
    assert list(standard) == column_names(())
    assert len(standard) == 12
    more = evaluated(truth, found, max_dets=(100, 300, 1000)).columns()
    assert list(more) == column_names((300, 1000))
    assert {name: more[name] for name in standard} == standard
    assert more["AR@1000"] >= more["AR@300"] > more["AR@100"]
    assert more["mAP_50@1000"] != more["mAP_50"]


def test_nothing_found_and_nothing_to_find():
    truth, found = random_case(3)
    for engine in ("hotcoco", "pycocotools"):
        empty = evaluated(truth, [], engine=engine)
        assert empty.columns()["mAP"] == 0 and empty.columns()["AR@100"] == 0
        nothing = evaluated({**truth, "annotations": []}, found, engine=engine)
        assert set(nothing.columns().values()) == {-1.0}


def test_annotation_0_can_be_found():
    truth, found = random_case(7)
    as_it_is = reference(truth, found, "bbox")
    truth["annotations"][0]["id"] = 0
    for engine in ("hotcoco", "pycocotools"):
        assert_same(evaluated(truth, found, engine=engine), as_it_is)


def test_ids_of_any_kind():
    truth, found = random_case(7)
    as_it_is = evaluated(truth, found)
    for entry in truth["images"]:
        entry["id"] = f"{entry['id']:09}.jpg"
    for entry in truth["annotations"] + found:
        entry["image_id"] = f"{entry['image_id']:09}.jpg"
    for key, entries in (("id", "categories"), ("category_id", "annotations")):
        for entry in truth[entries]:
            entry[key] -= 1000
    for entry in found:
        entry["category_id"] -= 1000
    np.testing.assert_array_equal(evaluated(truth, found).precision, as_it_is.precision)


def test_other_thresholds():
    truth, found = random_case(7)
    both = [evaluated(truth, found, iou_thrs=thrs) for thrs in (0.5, [0.5, 0.75])]
    whole = evaluated(truth, found).columns()
    assert both[0].columns()["mAP"] == both[0].columns()["mAP_50"] == whole["mAP_50"]
    assert both[0].columns()["mAP_75"] == -1
    assert both[1].columns()["mAP_75"] == whole["mAP_75"]


@pytest.mark.parametrize("where", ["images", "annotations", "categories"])
def test_an_id_twice_is_refused(where):
    truth, found = random_case(7)
    truth[where].append(dict(truth[where][0]))
    with pytest.raises(ValueError, match=rf"id {truth[where][0]['id']} occurs twice"):
        evaluated(truth, found)


def test_an_annotation_without_area_is_refused():
    truth, found = random_case(7)
    number = truth["annotations"][0]["id"]
    del truth["annotations"][0]["area"]
    with pytest.raises(ValueError, match=f"annotation {number} has no 'area'"):
        evaluated(truth, found)
