"""mmrev.CocoMetric as a config uses it, beside mmdet's."""

import json

import numpy as np
import pytest
import torch
from mmdet.evaluation.metrics import CocoMetric as MMDetCocoMetric
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from pycocotools import mask as rle
from random_coco import random_blobs, random_case
from test_coco import columns_of, reference

from mmrev.evaluation import coco as engines
from mmrev.evaluation.coco_metric import CocoMetric
from mmrev.evaluation.kept import Kept
from mmrev.registry import METRICS


def samples_of(truth, found):
    """What a detector hands to a metric, image by image."""
    labels = {one["id"]: label for label, one in enumerate(truth["categories"])}
    samples = []
    for image in truth["images"]:
        mine = [one for one in found if one["image_id"] == image["id"]]
        boxes = torch.tensor([one["bbox"] for one in mine], dtype=torch.float64)
        boxes = boxes.reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = dict(
            bboxes=boxes.float(),
            scores=torch.tensor([one["score"] for one in mine]),
            labels=torch.tensor(
                [labels[one["category_id"]] for one in mine], dtype=torch.long
            ),
        )
        if "segmentation" in (mine or [{}])[0]:
            masks = [rle.decode(one["segmentation"]) for one in mine]
            instances["masks"] = torch.tensor(np.array(masks), dtype=torch.bool)
        elif truth["annotations"] and "segmentation" in truth["annotations"][0]:
            instances["masks"] = []
        annotations = [
            dict(
                bbox=[*one["bbox"][:2], *np.add(one["bbox"][:2], one["bbox"][2:])],
                bbox_label=labels[one["category_id"]],
                ignore_flag=one["iscrowd"],
            )
            for one in truth["annotations"]
            if one["image_id"] == image["id"]
        ]
        samples.append(
            dict(
                img_id=image["id"],
                ori_shape=(image["height"], image["width"]),
                pred_instances=instances,
                instances=annotations,
            )
        )
    return samples


def built(truth, folder=None, kind=CocoMetric, **settings):
    if folder is not None:
        settings["ann_file"] = str(folder / "truth.json")
        (folder / "truth.json").write_text(json.dumps(truth))
    metric = kind(**settings)
    names = tuple(one["name"] for one in truth["categories"])
    metric.dataset_meta = {"classes": names}
    return metric


def measured(metric, samples, size=None):
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(len(samples) if size is None else size)


@pytest.mark.parametrize(
    ("metric", "iou_type", "prefix"),
    [
        ("bbox", "bbox", "coco/bbox_"),
        ("segm", "segm", "coco/segm_"),
        ("proposal", "bbox", "coco/"),
    ],
)
def test_the_12_statistics(tmp_path, metric, iou_type, prefix):
    for seed in range(6):
        truth, found = random_case(seed, masks=metric == "segm", detections=9)
        figures = measured(
            built(truth, tmp_path, metric=metric), samples_of(truth, found)
        )
        run = reference(truth, found, iou_type, use_classes=metric != "proposal")
        names = engines.column_names(())
        assert list(figures) == [
            prefix + name for name in names if metric != "proposal" or "AR" in name
        ]
        expected = dict(zip(names, run.stats.tolist(), strict=True))
        for name, value in figures.items():
            assert value == expected[name.removeprefix(prefix)], (seed, name)


def test_the_12_statistics_of_boundaries(tmp_path):
    truth, found = random_blobs(10)
    metric = built(truth, tmp_path, metric=["segm", "boundary"])
    figures = measured(metric, samples_of(truth, found))
    names = engines.column_names(())
    assert list(figures) == [
        f"coco/{kind}_{name}" for kind in ("segm", "boundary") for name in names
    ]
    ids = [category["id"] for category in truth["categories"]]
    curves = engines.evaluate(
        *(truth, columns_of(found), "boundary", ids, "faster-coco-eval")
    )
    for name, value in curves.columns().items():
        assert figures[f"coco/boundary_{name}"] == value, name
    assert 0 < figures["coco/boundary_mAP"] < figures["coco/segm_mAP"]


@pytest.mark.parametrize("annotations", ["of a file", "of the data set"])
def test_figures_are_mmdets_where_those_are_cocos(tmp_path, annotations):
    truth, found = random_case(12, images=4, objects=12, detections=30)
    # mmdet gives the figures of classes in ascending order to those of the file's.
    truth["categories"].sort(key=lambda category: category["id"])
    samples = samples_of(truth, found)
    folder = tmp_path if annotations == "of a file" else None
    settings = dict(proposal_nums=(1, 10, 100), classwise=True)
    ours = measured(built(truth, folder, **settings), samples)
    theirs = measured(built(truth, folder, MMDetCocoMetric, **settings), samples)
    assert len(theirs) == 6 + len(truth["categories"])
    for name, value in theirs.items():
        name = name.replace("coco/class", "coco/bbox_class")
        np.testing.assert_allclose(ours[name], value, atol=5.1e-4, err_msg=name)


def test_mmdets_other_columns_are_there_under_their_own_names(tmp_path):
    truth, found = random_case(5, images=2, objects=40, detections=450)
    samples = samples_of(truth, found)
    nums = (100, 300, 1000)
    ours = measured(built(truth, tmp_path, proposal_nums=nums), samples)
    theirs = measured(
        built(
            truth,
            tmp_path,
            MMDetCocoMetric,
            metric_items=["mAP", "mAP_50", "mAP_l", "AR@300", "AR_s@1000"],
        ),
        samples,
    )
    for name, value in theirs.items():
        name = name if "AR" in name or name.endswith("mAP") else f"{name}@1000"
        assert ours[name] == pytest.approx(value, abs=5.1e-4), name
    assert theirs["coco/bbox_mAP_50"] != pytest.approx(
        ours["coco/bbox_mAP_50"], abs=1e-3
    )


def test_classes_in_any_order(tmp_path):
    truth, found = random_case(12, images=4, objects=12, detections=30)
    ids = [one["id"] for one in truth["categories"]]
    assert ids != sorted(ids)
    figures = measured(built(truth, tmp_path, classwise=True), samples_of(truth, found))
    precision = reference(truth, found, "bbox").eval["precision"]
    for number, one in enumerate(sorted(ids)):
        values = precision[:, :, number, 0, 2]
        expected = values[values > -1].mean() if (values > -1).any() else np.nan
        np.testing.assert_equal(figures[f"coco/bbox_class{one}_precision"], expected)


@pytest.mark.parametrize("metric", ["bbox", "segm"])
def test_figures_of_classes_go_by_the_names_in_the_file(tmp_path, metric):
    """mmdet numbers labels in the file's order, whatever order the data set has."""
    seed = {"bbox": 12, "segm": 3}[metric]
    truth, found = random_case(seed, metric == "segm", images=4, objects=12)
    for one in found:
        one["score"] = 1.5  # for which all classes have another figure
        one["category_id"] = truth["categories"][0]["id"]
    settings = dict(classwise=True, metric=metric)
    samples = samples_of(truth, found)
    expected = measured(built(truth, tmp_path, **settings), samples)
    turned = built(truth, tmp_path, **settings)
    turned.dataset_meta = {"classes": turned.dataset_meta["classes"][::-1]}
    np.testing.assert_equal(measured(turned, samples), expected)
    first, *others = [
        expected[f"coco/{metric}_{one['name']}_precision"]
        for one in truth["categories"]
    ]
    assert first > max(0, *others)


def test_scores_need_not_be_probabilities(tmp_path):
    """Mask Scoring R-CNN multiplies scores by an IoU that it predicts, of any size."""
    truth, found = random_case(12, True, images=4, objects=12, detections=30)
    settings = dict(metric=["bbox", "segm"])
    expected = measured(built(truth, tmp_path, **settings), samples_of(truth, found))
    samples = samples_of(truth, found)
    for sample in samples:
        found = sample["pred_instances"]
        found["mask_scores"] = 4 * found["scores"] - 2  # exactly
        found["scores"] = 8 * found["scores"] - 4
    assert measured(built(truth, tmp_path, **settings), samples) == expected


def test_classes_without_objects_and_crowds_are_told_of(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: told.append(text))
    truth, found = random_case(12, images=4, objects=12, detections=30)
    metric = built(truth, tmp_path)
    measured(metric, samples_of(truth, found))
    total, crowds = 48, sum(one["iscrowd"] for one in truth["annotations"])
    number = len(truth["categories"])
    (remark,) = metric.remarks
    assert remark == (
        f"CocoMetric: AP and AR are means over the {number} of {number} classes that "
        f"have objects; {crowds} of {total} annotations are crowds, ignored"
    )
    assert not told
    truth["categories"].append(dict(id=1000, name="unicorn"))
    metric = built(truth, tmp_path)
    measured(metric, samples_of(truth, found))
    assert metric.remarks == told
    assert f"over the {number} of {number + 1} classes" in told[0]
    assert "; in no ground truth: unicorn; " in told[0]


def test_an_image_without_predictions_is_told_of(tmp_path, monkeypatch):
    truth, found = random_case(8, images=4, objects=5, detections=9)
    left_out = truth["images"][1]["id"]
    samples = [s for s in samples_of(truth, found) if s["img_id"] != left_out]
    told = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: told.append(text))
    metric = built(truth, tmp_path)
    figures = measured(metric, samples, 4)
    coverage = metric.coverage
    assert (coverage.expected, coverage.evaluated, coverage.unreadable) == (4, 3, 1)
    assert coverage.missing == (left_out,)
    assert told == [
        f"CocoMetric: only 3 of 4 images have predictions: {left_out}",
    ]
    found = [one for one in found if one["image_id"] != left_out]
    assert figures["coco/bbox_mAP"] == reference(truth, found, "bbox").stats[0]
    # Without a file nothing but the size tells.
    metric = built(truth)
    measured(metric, samples, 4)
    assert (metric.coverage.unreadable, metric.coverage.missing) == (1, ())


def test_no_predictions_at_all(tmp_path):
    truth, _ = random_case(8, images=4, objects=5)
    metric = built(truth, tmp_path)
    assert measured(metric, [], 4)["coco/bbox_mAP"] == 0
    assert metric.coverage.evaluated == 0


def test_an_image_twice_counts_once(tmp_path):
    truth, found = random_case(8, images=4, objects=5, detections=9)
    samples = samples_of(truth, found)
    metric = built(truth, tmp_path)
    once = measured(metric, samples)
    assert measured(metric, samples + samples[:2], 4) == once
    assert metric.coverage.evaluated == 4


def test_two_images_of_one_id_are_refused(tmp_path):
    """As joined data sets have them, of which the second would not count."""
    truth, found = random_case(8, images=4, objects=5, detections=9)
    samples = samples_of(truth, found)
    samples += [{**samples[0], "img_path": "b/1.jpg"}]
    samples[0]["img_path"] = "a/1.jpg"
    with pytest.raises(ValueError, match=r"\d+ for a/1\.jpg and b/1\.jpg; number the"):
        measured(built(truth, tmp_path), samples)


def test_an_evaluation_leaves_nothing_for_the_next(tmp_path):
    truth, found = random_case(8, images=4, objects=5, detections=9)
    samples = samples_of(truth, found)
    for metric in (built(truth, tmp_path), built(truth)):
        once = measured(metric, samples)
        assert not metric.results
        assert measured(metric, samples) == once


def spoil(key, value, position=0):
    def change(sample):
        sample["pred_instances"][key][position] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            spoil("scores", float("nan"), 2),
            "detection 2: expected a finite score, got nan",
        ),
        (spoil("scores", -torch.inf), "a finite score, got -inf"),
        (spoil("labels", 3, 1), "detection 1: expected a label of 0..2, got 3"),
        (spoil("labels", -1), "a label of 0..2, got -1"),
        (spoil("bboxes", torch.tensor([0, 0, torch.inf, 5])), "a finite box"),
        (
            spoil("bboxes", torch.tensor([9.0, 0, 5, 5])),
            "a box with left <= right",
        ),
        (spoil("bboxes", torch.tensor([0.0, 0, 5000, 5])), "a box no further off"),
        (lambda s: s["pred_instances"].update(scores=torch.ones(2)), "as many of each"),
    ],
)
def test_predictions_that_make_no_sense_are_refused(tmp_path, change, message):
    truth, found = random_case(7, images=2, objects=3, detections=5)
    truth["categories"] = [dict(id=i, name=str(i)) for i in range(3)]
    for one in truth["annotations"] + found:
        one["category_id"] = 1
    metric = built(truth, tmp_path)
    sample = samples_of(truth, found)[1]
    change(sample)
    with pytest.raises(ValueError, match=f"image {sample['img_id']}.*{message}"):
        metric.process({}, [sample])


def test_masks_of_another_size_and_none_are_refused(tmp_path):
    truth, found = random_case(7, masks=True, images=1, objects=3, detections=3)
    (sample,) = samples_of(truth, found)
    metric = built(truth, tmp_path, metric="segm")
    cut = {
        **sample["pred_instances"],
        "masks": sample["pred_instances"]["masks"][:, 1:],
    }
    with pytest.raises(ValueError, match="a mask of its image's height and width"):
        metric.process({}, [{**sample, "pred_instances": cut}])
    del sample["pred_instances"]["masks"]
    for kind in ("segm", "boundary"):
        with pytest.raises(ValueError, match=f"'{kind}' needs masks"):
            measured(built(truth, tmp_path, metric=kind), [sample])


def test_unknown_images_and_classes_are_refused(tmp_path):
    truth, found = random_case(7, images=2, objects=3, detections=5)
    samples = samples_of(truth, found)
    samples[0]["img_id"] = 12345678
    with pytest.raises(
        ValueError, match="the 2 images of ann_file, got some for image 12345678"
    ):
        measured(built(truth, tmp_path), samples)
    metric = built(truth, tmp_path)
    metric.dataset_meta = {"classes": (*metric.dataset_meta["classes"], "unicorn")}
    with pytest.raises(ValueError, match="which lack unicorn"):
        measured(metric, samples)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(metric="proposal_fast"), "got 'proposal_fast'"),
        (dict(engine="rust"), "engine must be 'hotcoco' or 'pycocotools', got 'rust'"),
        (dict(metric_items=["mAP_60"]), "got 'mAP_60'"),
        (dict(metric_items=["AR@300"]), "got 'AR@300'"),
        (dict(proposal_nums=(0, 10)), r"positive integers, got \(0, 10\)"),
        (dict(format_only=True), "needs outfile_prefix"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        CocoMetric(**settings)


def test_files_for_a_server(tmp_path):
    truth, found = random_case(7, masks=True, images=2, objects=3, detections=5)
    metric = built(
        truth,
        tmp_path,
        metric=["bbox", "segm"],
        format_only=True,
        outfile_prefix=str(tmp_path / "out"),
    )
    assert measured(metric, samples_of(truth, found)) == {}
    for kind in ("bbox", "segm"):
        written = json.loads((tmp_path / f"out.{kind}.json").read_text())
        assert len(written) == len(found)
        run = reference(truth, written, kind)
        assert run.stats.tolist() == reference(truth, found, kind).stats.tolist()


def test_the_record_learns_protocol_and_engine(tmp_path, monkeypatch):
    truth, _ = random_case(7)
    assert built(truth).protocol == "COCO (hotcoco 1.3.0, 100 detections)"
    more = built(truth, proposal_nums=(100, 300), iou_thrs=0.5)
    assert more.protocol == (
        "not standard COCO: IoU thresholds 0.5; COCO (hotcoco 1.3.0, 100 detections); "
        "columns @300 are not COCO's"
    )
    boundaries = (
        "COCO by Boundary IoU (faster-coco-eval 1.8.0, boundaries of 0.02 of the "
        "diagonal, 100 detections)"
    )
    assert built(truth, metric="boundary").protocol == boundaries
    both = "COCO (hotcoco 1.3.0, 100 detections); " + boundaries
    assert built(truth, metric=["boundary", "segm"]).protocol == both
    told = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: told.append(text))
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Run: pip install faster-coco-eval"):
        built(truth, metric="boundary")
    told.clear()
    metric = built(truth)
    assert metric.engine == "pycocotools"
    assert metric.protocol == "COCO (pycocotools 2.0.11, 100 detections)"
    assert "hotcoco is not installed; pycocotools computes the same" in told[0]


def test_a_config_finds_it():
    evaluator = Evaluator(dict(type="mmrev.CocoMetric", metric=["bbox", "segm"]))
    assert type(evaluator.metrics[0]) is CocoMetric
    assert METRICS.get("CocoMetric") is CocoMetric


def test_few_bytes_are_kept_of_a_detection(tmp_path):
    truth, found = random_case(7, images=2, objects=3, detections=500)
    metric = built(truth, tmp_path)
    for sample in samples_of(truth, found):
        metric.process({}, [sample])
    kept = [v.array() for one in metric.results for v in one if isinstance(v, Kept)]
    assert sum(array.nbytes for array in kept) == 24 * len(found)
