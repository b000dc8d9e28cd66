"""TIDE's kinds of errors, on boxes made for each (arXiv 2008.08115)."""

import numpy as np
import pytest

from mmrev.evaluation.detection_errors import (
    KINDS,
    ImageBoxes,
    best_threshold,
    split_errors,
    summarise,
)

OBJECT = (0, 0, 100, 100)
# Half of it: IoU 0.5 exactly. A third of it: between the thresholds. A corner: 0.04.
HALF, THIRD, CORNER = (0, 0, 100, 50), (0, 0, 100, 33), (0, 0, 20, 20)
ELSEWHERE = (200, 200, 300, 300)


def image(detections=(), objects=(), crowds=()) -> ImageBoxes:
    """Detections are (box, label, score), objects and crowds (box, label)."""

    def column(rows, place, width=()):
        return np.array([row[place] for row in rows], float).reshape(-1, *width)

    return ImageBoxes(
        column(detections, 0, (4,)),
        column(detections, 1).astype(int),
        column(detections, 2),
        column(objects, 0, (4,)),
        column(objects, 1).astype(int),
        column(crowds, 0, (4,)),
        column(crowds, 1).astype(int),
    )


@pytest.mark.parametrize(
    ("detection", "kind", "state"),
    [
        ((OBJECT, 1, 0.9), "right", "found"),
        ((HALF, 1, 0.9), "right", "found"),
        ((OBJECT, 2, 0.9), "classification", "classification"),
        ((HALF, 2, 0.9), "classification", "classification"),
        ((THIRD, 1, 0.9), "localisation", "localisation"),
        ((THIRD, 2, 0.9), "both", "missed"),
        ((CORNER, 1, 0.9), "background", "missed"),
        ((ELSEWHERE, 1, 0.9), "background", "missed"),
    ],
)
def test_a_detection_beside_one_object(detection, kind, state):
    errors = split_errors(image([detection], [(OBJECT, 1)]))
    assert errors.kinds.tolist() == [kind] and errors.states.tolist() == [state]
    expected = dict.fromkeys(KINDS, 0)
    if kind in KINDS:
        expected[kind] = 1
    expected["missed"] = int(state == "missed")
    assert errors.counts == expected
    assert errors.f1 == (kind == "right")


def test_of_two_on_an_object_the_surer_is_right():
    boxes = image([(HALF, 1, 0.6), (OBJECT, 1, 0.8)], [(OBJECT, 1)])
    errors = split_errors(boxes)
    assert errors.kinds.tolist() == ["duplicate", "right"]
    assert errors.meant.tolist() == [-1, 0]
    assert errors.f1 == pytest.approx(2 / 3)


def test_one_error_at_most_is_fixed_for_an_object():
    detections = [(THIRD, 1, 0.5), (OBJECT, 2, 0.7), (THIRD, 1, 0.6)]
    errors = split_errors(image(detections, [(OBJECT, 1)]))
    assert errors.kinds.tolist() == ["localisation", "classification", "localisation"]
    assert errors.fixable.tolist() == [False, True, False]
    assert errors.states.tolist() == ["classification"]


def test_an_error_about_a_found_object_is_not_fixable():
    detections = [(OBJECT, 1, 0.9), (OBJECT, 2, 0.8), (THIRD, 1, 0.7)]
    errors = split_errors(image(detections, [(OBJECT, 1)]))
    assert errors.kinds.tolist() == ["right", "classification", "localisation"]
    assert not errors.fixable.any() and errors.states.tolist() == ["found"]


def test_in_a_crowd_of_its_class_a_detection_counts_neither_way():
    crowd = [((0, 0, 500, 500), 1)]
    inside = [(ELSEWHERE, 1, 0.9), (ELSEWHERE, 2, 0.9)]
    errors = split_errors(image(inside, (), crowd))
    assert errors.kinds.tolist() == ["ignored", "background"]
    assert errors.f1 == 0
    # The area of the detection decides, not that of both; a right one stays right.
    half_out = [((450, 0, 530, 100), 1, 0.9), ((490, 0, 600, 10), 1, 0.9)]
    errors = split_errors(image([*half_out, (OBJECT, 1, 0.9)], [(OBJECT, 1)], crowd))
    assert errors.kinds.tolist() == ["ignored", "background", "right"]


def test_empty_images():
    errors = split_errors(image())
    assert errors.f1 == 1 and not any(errors.counts.values())
    assert split_errors(image((), [(OBJECT, 1)])).counts["missed"] == 1
    summary = summarise([image()])
    assert np.isnan(summary.ap) and best_threshold([image()]) == 0
    assert np.isnan(summarise([]).ap)


# Two objects of class 1, of which the first is found at 0.9: precision 1 up to recall
# 0.5, which 51 of COCO's 101 steps reach.
FOUND = (OBJECT, 1, 0.9)
OTHER = (200, 0, 300, 100)
PLAIN = 51 / 101


@pytest.mark.parametrize(
    ("detection", "kind", "before", "gain"),
    [
        (((200, 0, 300, 100), 2, 0.8), "classification", PLAIN, 1 - PLAIN),
        (((200, 0, 300, 33), 1, 0.8), "localisation", PLAIN, 1 - PLAIN),
        # A surer error halves the precision; without it, it is 1.
        (((200, 0, 300, 33), 2, 0.95), "both", PLAIN, 0),
        (((600, 0, 700, 100), 1, 0.95), "background", PLAIN / 2, PLAIN / 2),
    ],
)
def test_what_fixing_a_kind_gains(detection, kind, before, gain):
    summary = summarise([image([FOUND, detection], [(OBJECT, 1), (OTHER, 1)])])
    assert summary.ap == pytest.approx(before)
    assert summary.counts[kind] == 1
    assert summary.gains[kind] == pytest.approx(gain)
    others = set(KINDS) - {kind, "missed"}
    assert all(summary.gains[other] == pytest.approx(0) for other in others)


def test_what_fixing_duplicates_gains():
    detections = [FOUND, (HALF, 1, 0.85), ((200, 0, 300, 100), 1, 0.8)]
    summary = summarise([image(detections, [(OBJECT, 1), (OTHER, 1)])])
    # Precision 2/3 where recall is above 0.5.
    assert summary.ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert summary.gains["duplicate"] == pytest.approx(1 - summary.ap)


def test_what_fixing_missed_objects_gains():
    summary = summarise([image([FOUND], [(OBJECT, 1), (OTHER, 1)])])
    assert summary.ap == pytest.approx(PLAIN)
    assert summary.gains["missed"] == pytest.approx(1 - PLAIN)
    # Both errors claim an object, which is then not missed.
    claimed = [FOUND, ((200, 0, 300, 33), 1, 0.8)]
    assert summarise([image(claimed, [(OBJECT, 1), (OTHER, 1)])]).gains["missed"] == 0


def test_a_class_without_objects_left():
    alone = summarise([image([FOUND], [(OBJECT, 1), (OTHER, 2)])])
    assert alone.ap == pytest.approx(0.5)
    assert alone.gains["missed"] == pytest.approx(0.5)
    wrong = [FOUND, ((600, 0, 700, 100), 2, 0.5)]
    summary = summarise([image(wrong, [(OBJECT, 1), (OTHER, 2)])])
    assert summary.gains["missed"] == 0


def test_ap_is_that_of_pycocotools():
    images = random_images(np.random.default_rng(0))
    assert summarise(images).ap == pytest.approx(pycocotools_ap(images), abs=1e-12)


def random_images(rng) -> list[ImageBoxes]:
    images = []
    for _ in range(40):
        corner = rng.uniform(0, 80, (rng.integers(0, 6), 2))
        objects = np.hstack([corner, corner + rng.uniform(20, 50, corner.shape)])
        labels = rng.integers(0, 3, len(objects))
        near = np.repeat(objects, 4, axis=0)
        near = near + rng.normal(0, 5, near.shape).clip(-9, 9)
        found = np.where(rng.random(len(near)) < 0.7, labels.repeat(4), 1)
        crowd = np.array([[0.0, 0, 60, 60]])[: rng.integers(0, 2)]
        crowd_labels = rng.integers(0, 3, len(crowd))
        scores = rng.random(len(near))
        images.append(
            ImageBoxes(near, found, scores, objects, labels, crowd, crowd_labels)
        )
    return images


def pycocotools_ap(images: list[ImageBoxes]) -> float:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(number, image_id, box, label, **more):
        left, top, right, bottom = box.tolist()
        size = [left, top, right - left, bottom - top]
        place = dict(id=number, image_id=image_id, category_id=int(label), bbox=size)
        return place | dict(area=size[2] * size[3], iscrowd=0) | more

    truth, found = [], []
    for number, one in enumerate(images, start=1):
        for box, label in zip(one.objects, one.object_labels, strict=True):
            truth.append(entry(len(truth) + 1, number, box, label))
        for box, label in zip(one.crowds, one.crowd_labels, strict=True):
            truth.append(entry(len(truth) + 1, number, box, label, iscrowd=1))
        for box, label, score in zip(one.boxes, one.labels, one.scores, strict=True):
            found.append(entry(len(found) + 1, number, box, label, score=score))
    ids = [dict(id=number) for number in range(1, len(images) + 1)]
    coco, results = COCO(), COCO()
    classes = [dict(id=label) for label in range(3)]
    coco.dataset = dict(images=ids, annotations=truth, categories=classes)
    results.dataset = dict(images=ids, annotations=found, categories=classes)
    for one in (coco, results):
        one.createIndex()
    evaluation = COCOeval(coco, results, "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"][0, :, :, 0, -1].mean()


def test_best_threshold_has_the_highest_f1():
    images = random_images(np.random.default_rng(1))

    def f1(threshold):
        errors = [split_errors(one.above(threshold)) for one in images]
        found = sum((e.states == "found").sum() for e in errors)
        kept = sum((e.kinds != "ignored").sum() + len(e.states) for e in errors)
        return 2 * found / kept

    every = np.concatenate([one.scores for one in images])
    best = best_threshold(images)
    assert f1(best) == pytest.approx(max(map(f1, every)))
    assert f1(best) > f1(0)


def test_best_threshold_where_nothing_is_right():
    wrong = [(ELSEWHERE, 1, score) for score in (0.2, 0.5, 0.4, 0.3)]
    boxes = image(wrong, [(OBJECT, 1), (OTHER, 1)])
    assert best_threshold([boxes]) == 0.4
