"""mmrev.CocoPanopticMetric as a config uses it."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from random_panoptic import OFFSET, random_case, write
from test_panoptic import PANOPTICAPI, evaluated

from mmrev.evaluation import coco_panoptic_metric
from mmrev.evaluation.coco_panoptic_metric import CocoPanopticMetric
from mmrev.registry import METRICS

NAMES = [f"{name}{of}" for of in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ")]
CASE = 104


def samples_of(predicted, dtype=torch.int32):
    """What a panoptic model hands to a metric, image by image."""
    return [
        dict(
            img_id=image,
            ori_shape=ids.shape,
            pred_panoptic_seg={"sem_seg": torch.tensor(ids, dtype=dtype)[None]},
        )
        for image, ids in predicted.items()
    ]


def built(truth, true, folder, **settings):
    metric = CocoPanopticMetric(*write(truth, true, folder), **settings)
    names = tuple(one["name"] for one in truth["categories"])
    metric.dataset_meta = {"classes": names}
    return metric


def measured(metric, samples, size=None):
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples) if size is None else size)


def same(figures, others):
    np.testing.assert_allclose(
        [figures[name] for name in others], list(others.values()), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("seed", PANOPTICAPI)
def test_panopticapis_figures_under_mmdets_names(tmp_path, seed, dtype):
    truth, true, predicted = random_case(seed)
    figures = measured(built(truth, true, tmp_path), samples_of(predicted, dtype))
    assert list(figures) == [f"coco_panoptic/{name}" for name in NAMES]
    expected = [100 * share for share in PANOPTICAPI[seed]]
    same(figures, dict(zip(figures, expected, strict=True)))


def test_each_class(tmp_path):
    truth, true, predicted = random_case(CASE)
    truth["categories"].append(dict(id=777, name="unicorn", isthing=1))
    metric = built(truth, true, tmp_path, classwise=True)
    # The data set lists its classes in an order of its own.
    metric.dataset_meta = {"classes": metric.dataset_meta["classes"][::-1]}
    # The label of void follows that of the last class.
    for ids in predicted.values():
        ids[ids % OFFSET == len(truth["categories"]) - 1] += 1
    figures = measured(metric, samples_of(predicted))
    assert np.isnan(figures["coco_panoptic/unicorn_PQ"])
    areas = [s["area"] for one in truth["annotations"] for s in one["segments_info"]]
    void = 100 * (1 - sum(areas) / sum(ids.size for ids in true.values()))
    total = len(truth["categories"])
    assert metric.remarks == [
        "CocoPanopticMetric: PQ, SQ and RQ are means over the "
        f"{total - 1} of {total} classes that are true or predicted anywhere; in no "
        f"ground truth: unicorn; {void:.2f} % of the pixels are void"
    ]
    shares = evaluated(truth, true, predicted, tmp_path)["per_class"]
    same(
        figures,
        {
            f"coco_panoptic/{one['name']}_PQ": 100 * shares[one["id"]]["pq"]
            for one in truth["categories"][:-1]
        },
    )


def test_a_group_without_a_class_is_no_number(tmp_path):
    truth, true, predicted = random_case(CASE)
    for one in truth["categories"]:
        one["isthing"] = 1
    figures = measured(built(truth, true, tmp_path), samples_of(predicted))
    assert figures["coco_panoptic/PQ"] == figures["coco_panoptic/PQ_th"] > 0
    assert np.isnan(figures["coco_panoptic/PQ_st"])


def test_label_0_without_an_instance_is_a_segment(tmp_path):
    truth = dict(
        categories=[dict(id=7, name="grass", isthing=0)],
        images=[dict(id=1, height=2, width=3)],
        annotations=[
            dict(
                image_id=1,
                file_name="1.png",
                segments_info=[dict(id=9, category_id=7, area=6)],
            )
        ],
    )
    metric = built(truth, {1: np.full((2, 3), 9)}, tmp_path)
    figures = measured(metric, samples_of({1: np.zeros((2, 3), int)}))
    assert figures["coco_panoptic/PQ"] == 100


def test_an_image_without_predictions_is_told_of(tmp_path, monkeypatch):
    truth, true, predicted = random_case(CASE)
    left_out = next(iter(predicted))
    metric, told = built(truth, true, tmp_path), []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: told.append(text))
    some = samples_of(predicted)[1:]
    figures = measured(metric, some, len(predicted))
    coverage, number = metric.coverage, len(predicted)
    assert (coverage.expected, coverage.evaluated) == (number, number - 1)
    assert coverage.missing == (left_out,)
    assert told == [
        f"CocoPanopticMetric: only {number - 1} of {number} images have predictions: "
        f"{left_out}"
    ]
    # As one where all is void.
    void = np.full_like(predicted[left_out], len(truth["categories"]))
    same(measured(metric, samples_of({**predicted, left_out: void})), figures)
    whole = measured(metric, samples_of(predicted))
    assert figures["coco_panoptic/RQ"] < whole["coco_panoptic/RQ"]


def test_no_predictions_at_all(tmp_path):
    truth, true, _ = random_case(CASE)
    metric = built(truth, true, tmp_path)
    assert measured(metric, [], len(true))["coco_panoptic/PQ"] == 0
    assert metric.coverage.evaluated == 0


def test_two_images_of_one_id_are_refused(tmp_path):
    truth, true, predicted = random_case(CASE)
    one, *_ = samples_of(predicted)
    metric = built(truth, true, tmp_path)
    samples = [one | {"img_path": path} for path in ("a/1.jpg", "b/1.jpg")]
    with pytest.raises(ValueError, match=r"for a/1\.jpg and b/1\.jpg; number the"):
        measured(metric, samples)


def test_an_image_twice_counts_once_and_nothing_stays_for_the_next(tmp_path):
    truth, true, predicted = random_case(CASE)
    samples = samples_of(predicted)
    metric = built(truth, true, tmp_path)
    once = measured(metric, samples)
    assert not metric.results
    other = {**samples[0], "pred_panoptic_seg": samples[0]["pred_panoptic_seg"].copy()}
    other["pred_panoptic_seg"]["sem_seg"] = torch.full_like(
        other["pred_panoptic_seg"]["sem_seg"], 1
    )
    same(measured(metric, [*samples, other], len(samples)), once)
    assert metric.coverage.evaluated == len(samples)


def spoil(value):
    def change(sample):
        sample["pred_panoptic_seg"]["sem_seg"][0, 1, 1] = value

    return change


def replace(make):
    def change(sample):
        found = sample["pred_panoptic_seg"]
        found["sem_seg"] = make(found["sem_seg"])

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil(3005), r"a label of 0\.\.3 or 4 for void, got 3005"),
        (spoil(-1), r"4 for void, got -1"),
        (replace(lambda ids: ids[:, 1:]), r"ids of shape \(1, .* got \(1, "),
        (replace(lambda ids: ids[0]), r"ids of shape \(1, "),
        (replace(lambda ids: ids.float()), "whole numbers, got float32"),
        (
            lambda one: one.update(pred_instances=one.pop("pred_panoptic_seg")),
            "of a panoptic model, got pred_instances",
        ),
        (lambda one: one.pop("pred_panoptic_seg"), "got no predictions"),
    ],
)
def test_predictions_that_make_no_sense_are_refused(tmp_path, change, message):
    truth, true, predicted = random_case(CASE)
    metric = built(truth, true, tmp_path)
    sample = samples_of(predicted)[1]
    change(sample)
    with pytest.raises(ValueError, match=f"image {sample['img_id']}: .*{message}"):
        metric.process({}, [sample])


def test_unknown_images_and_classes_are_refused(tmp_path):
    truth, true, predicted = random_case(CASE)
    metric = built(truth, true, tmp_path)
    sample = {**samples_of(predicted)[0], "img_id": 12345678}
    expected = f"the {len(true)} images of ann_file, got some for image 12345678"
    with pytest.raises(ValueError, match=expected):
        metric.process({}, [sample])
    metric.dataset_meta = {"classes": (*metric.dataset_meta["classes"], "unicorn")}
    with pytest.raises(ValueError, match="which lack unicorn"):
        metric.process({}, samples_of(predicted))


def test_settings_that_make_no_sense(tmp_path, monkeypatch):
    truth, true, _ = random_case(CASE)
    with pytest.raises(ValueError, match=r"must be None, got .*'s3'"):
        built(truth, true, tmp_path, backend_args={"backend": "s3"})
    with pytest.raises(ValueError, match="set seg_prefix to the folder of maps"):
        CocoPanopticMetric(write(truth, true, tmp_path)[0], str(tmp_path))
    monkeypatch.setattr(coco_panoptic_metric, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Run: pip install hotcoco"):
        built(truth, true, tmp_path)


def test_a_config_finds_it(tmp_path):
    ann_file, seg_prefix = write(*random_case(CASE)[:2], tmp_path)
    kind = "mmrev.CocoPanopticMetric"
    settings = dict(type=kind, ann_file=ann_file, seg_prefix=seg_prefix)
    evaluator = Evaluator({**settings, "backend_args": None, "prefix": "mine"})
    assert type(evaluator.metrics[0]) is CocoPanopticMetric
    assert evaluator.metrics[0].prefix == "mine"
    assert METRICS.get("CocoPanopticMetric") is CocoPanopticMetric
    assert evaluator.metrics[0].protocol == "COCO panoptic (hotcoco 1.3.0)"


def test_few_bytes_are_kept_of_an_image(tmp_path):
    truth, true, predicted = random_case(CASE)
    metric = built(truth, true, tmp_path)
    for sample in samples_of(predicted):
        metric.process({}, [sample])
    kept = [len(code) for one in metric.results for code in one.codes]
    pixels = sum(ids.size for ids in predicted.values())
    assert sum(kept) < pixels // 2
