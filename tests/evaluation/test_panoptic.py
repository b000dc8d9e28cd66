"""Panoptic quality, against its definition pixel by pixel, and against panopticapi."""

import copy
import json
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle
from random_panoptic import OFFSET, random_case, write

from mmrev.evaluation.panoptic import Segment, panoptic_quality, read_truth

HALF = Fraction(1, 2)
GROUPS = {"All": (0, 1), "Things": (1,), "Stuff": (0,)}
# PQ, SQ and RQ over all classes, things and stuff of random_case(seed), by
# cocodataset/panopticapi 7bb4655 (pq_compute_single_core and pq_average; predicted
# ids + 1 as colours, void 0).
PANOPTICAPI = {
    104: (
        *(0.3365208865208865, 0.9356277981277982, 0.3536255411255411),
        *(0.41022126022126026, 0.9866402116402117, 0.41558441558441556),
        *(0.26282051282051283, 0.8846153846153846, 0.29166666666666663),
    ),
    130: (
        *(0.4549107142857143, 0.7109375, 0.4809523809523809),
        *(0.6285714285714286, 1.0, 0.6285714285714286),
        *(0.28125, 0.421875, 0.3333333333333333),
    ),
    143: (
        *(0.34690476190476194, 0.520357142857143, 0.4),
        *(0.2669642857142857, 0.40044642857142854, 0.3333333333333333),
        *(0.6666666666666666, 1.0, 0.6666666666666666),
    ),
}


def segments_of(truth, predicted):
    """The segments of mmdet's maps."""
    categories = [one["id"] for one in truth["categories"]]
    found = []
    for image, ids in predicted.items():
        for one in np.unique(ids[ids % OFFSET < len(categories)]).tolist():
            code = rle.encode(np.asfortranarray(ids == one, np.uint8))["counts"]
            found.append(Segment(image, categories[one % OFFSET], code))
    return found


def evaluated(truth, true, predicted, folder):
    _, maps = write(truth, true, folder)
    return panoptic_quality(truth, maps, segments_of(truth, predicted))


def oracle(truth, true, predicted):
    """The definition of the paper, section 4, with COCO's rule for crowds.

    Returns:
        By category TP, FP, FN and the sum of the TPs' IoU, and how often each rule
        decided.
    """
    counts, rules = defaultdict(lambda: [0, 0, 0, Fraction(0)]), Counter()
    for one in truth["annotations"]:
        ids = true[one["image_id"]]
        segments, void = one["segments_info"], ids == 0
        mine = [
            (found.category, rle.decode({"size": ids.shape, "counts": found.code}) > 0)
            for found in segments_of(truth, predicted)
            if found.image == one["image_id"]
        ]
        matched = set()
        for segment in segments:
            if segment["iscrowd"]:
                continue
            there, count = ids == segment["id"], counts[segment["category_id"]]
            for number, (category, here) in enumerate(mine):
                if category != segment["category_id"]:
                    continue
                # Void does not count, so that it is taken out of the prediction.
                union = (there | here & ~void).sum()
                iou = Fraction(int((there & here).sum()), int(union))
                rules["at a half"] += iou == HALF
                if iou > HALF:
                    matched.add(number)
                    count[0] += 1
                    count[3] += iou
                    break
            else:
                count[2] += 1
        for number, (category, here) in enumerate(mine):
            if number in matched:
                continue
            # panopticapi knows of one crowd of a class in an image: the last.
            crowds = [
                segment["id"]
                for segment in segments
                if segment["iscrowd"] and segment["category_id"] == category
            ]
            crowd = np.isin(ids, crowds[-1:])
            in_void, ignored = (
                Fraction(int((here & region).sum()), int(here.sum()))
                for region in (void, void | crowd)
            )
            rules["ignored at a half"] += ignored == HALF
            rules["void"] += in_void > HALF
            rules["crowd"] += in_void <= HALF < ignored
            counts[category][1] += ignored <= HALF
    return counts, rules


def averaged(counts, truth):
    shares = {}
    for group, kinds in GROUPS.items():
        rows = []
        for one in truth["categories"]:
            tp, fp, fn, total = counts[one["id"]]
            if one["isthing"] in kinds and tp + fp + fn:
                weight = tp + HALF * (fp + fn)
                rows.append((total / weight, total / max(tp, 1), tp / weight))
        shares[group] = [float(sum(row) / len(rows)) for row in zip(*rows, strict=True)]
    return shares


def compare(seeds, folder):
    rules = Counter()
    for seed in seeds:
        truth, true, predicted = random_case(seed)
        found = evaluated(truth, true, predicted, folder / str(seed))
        counts, decided = oracle(truth, true, predicted)
        rules += decided
        for one, values in found["per_class"].items():
            *expected, total = counts[one]
            assert [values[key] for key in ("tp", "fp", "fn")] == expected, (seed, one)
            assert values["iou"] == pytest.approx(float(total), abs=1e-12)
            rules["true positive"] += values["tp"]
        for group, expected in averaged(counts, truth).items():
            shares = [found[group][key] for key in ("pq", "sq", "rq")]
            assert shares == pytest.approx(expected or [-1] * 3, abs=1e-12), seed
    return rules


def test_random_data(tmp_path):
    rules = compare(range(150), tmp_path)
    assert min(rules.values()) > 9 and len(rules) == 5, rules


@pytest.mark.slow
def test_much_random_data(tmp_path):
    rules = compare(range(1000, 3000), tmp_path)
    assert min(rules.values()) > 100, rules


@pytest.mark.parametrize("seed", PANOPTICAPI)
def test_panopticapis_figures(tmp_path, seed):
    found = evaluated(*random_case(seed), tmp_path)
    shares = [found[group][key] for group in GROUPS for key in ("pq", "sq", "rq")]
    assert shares == pytest.approx(PANOPTICAPI[seed], abs=1e-12)


def test_ids_of_any_kind(tmp_path):
    truth, true, predicted = random_case(104)
    as_it_is = evaluated(truth, true, predicted, tmp_path)

    def renamed(one, key, name):
        return {**one, key: name(one[key])}

    truth["images"] = [renamed(one, "id", str) for one in truth["images"]]
    truth["annotations"] = [
        renamed(one, "image_id", str) for one in truth["annotations"]
    ]
    for one in truth["annotations"]:
        one["segments_info"] = [
            renamed(segment, "category_id", lambda number: -number)
            for segment in one["segments_info"]
        ]
    truth["categories"] = [
        renamed(one, "id", lambda number: -number) for one in truth["categories"]
    ]
    true, predicted = (
        {str(image): ids for image, ids in maps.items()} for maps in (true, predicted)
    )
    found = evaluated(truth, true, predicted, tmp_path)
    assert [found[group] for group in GROUPS] == [as_it_is[group] for group in GROUPS]
    for one, values in as_it_is["per_class"].items():
        assert found["per_class"][-one] == values


def test_nothing_found_and_nothing_to_find(tmp_path):
    truth, true, predicted = random_case(104)
    empty = evaluated(truth, true, {}, tmp_path)
    assert empty["All"]["pq"] == empty["All"]["rq"] == 0
    assert sum(one["fn"] for one in empty["per_class"].values()) == sum(
        not segment["iscrowd"]
        for one in truth["annotations"]
        for segment in one["segments_info"]
    )
    for one in truth["annotations"]:
        one["segments_info"] = []
    true = {image: np.zeros_like(ids) for image, ids in true.items()}
    # All is void, where nothing that is found is wrong.
    void = evaluated(truth, true, predicted, tmp_path)
    assert (void["All"]["pq"], void["All"]["n"]) == (-1, 0)


def spoilt(change):
    truth, true, _ = random_case(104)
    truth = copy.deepcopy(truth)
    change(truth)
    return truth, true


def first_segment(truth):
    return next(
        segment for one in truth["annotations"] for segment in one["segments_info"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("categories"), "got no list of categories"),
        (lambda t: t["categories"][0].pop("isthing"), "categories without 'isthing'"),
        (
            lambda t: t["annotations"][0].pop("segments_info"),
            "annotations without 'segments_info'",
        ),
        (lambda t: t["images"][0].pop("height"), "images without 'height'"),
        (lambda t: first_segment(t).pop("area"), "a segment has no 'area'"),
        (lambda t: first_segment(t).update(category_id=999), "categories, got 999"),
        (
            lambda t: t["annotations"].append(t["annotations"][0]),
            "1 among the annotations, got 1 and 2",
        ),
        (lambda t: t["images"].append(t["images"][0]), "got 2 and 1"),
        (lambda t: t["annotations"].pop(), "got 1 and 0"),
        (lambda t: t["images"].pop(), "got 0 and 1"),
        (
            lambda t: t["annotations"][0].update(file_name="no.png"),
            r"no\.png, which cannot be read \(FileNotFoundError\); set seg_prefix",
        ),
        (lambda t: t["images"][0].update(height=777), r"expected a map .*\(777, "),
        (
            lambda t: t["annotations"][0].update(file_name="../../secret.png"),
            "expected a map below .*/panoptic, got ",
        ),
        (lambda t: t["annotations"][0].update(file_name=3), "form, got another"),
        (lambda t: t["images"][0].update(id=[]), "form, got another"),
    ],
)
def test_annotations_that_make_no_sense_are_refused(tmp_path, change, message):
    file, maps = write(*spoilt(lambda truth: None), tmp_path)
    assert read_truth(file, maps)["images"]
    truth, _ = spoilt(change)
    (tmp_path / "panoptic.json").write_text(json.dumps(truth))
    with pytest.raises(ValueError, match=rf"panoptic\.json: .*{message}"):
        read_truth(file, maps)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\x89PNG"])
def test_a_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json"):
        read_truth(tmp_path / "a.json", tmp_path)


def test_a_map_that_is_none_is_refused(tmp_path):
    truth, true, _ = random_case(104)
    file, maps = write(truth, true, tmp_path)
    name = truth["annotations"][0]["file_name"]
    (tmp_path / "panoptic" / name).write_bytes(b"text")
    with pytest.raises(ValueError, match=rf"{name}, which cannot be read"):
        read_truth(file, maps)
    # Its header is sound, but its colours are no ids.
    ids = true[truth["annotations"][0]["image_id"]]
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "panoptic" / name)
    with pytest.raises(ValueError, match=name):
        panoptic_quality(read_truth(file, maps), maps, [])
