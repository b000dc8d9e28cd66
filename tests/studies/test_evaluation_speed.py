"""What tools/analysis/evaluation_speed.py measures; not how fast it is."""

import json

import pytest

from mmrev.studies.evaluation_speed import (
    detection_case,
    detection_metric,
    print_evaluation_speed,
    segmentation_times,
)


def test_the_metrics_that_are_timed_agree(tmp_path):
    truth, samples = detection_case(images=6, detections=30, classes=3)
    assert [len(s["pred_instances"]["scores"]) for s in samples] == [30] * 6
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(truth))
    figures = {}
    for name in ("hotcoco", "pycocotools", "mmdet"):
        metric = detection_metric(name, str(path), 3)
        metric.process({}, samples)
        figures[name] = metric.evaluate(6)
    assert figures["hotcoco"] == figures["pycocotools"]
    assert 0.1 < figures["hotcoco"]["coco/bbox_mAP"] < 0.9
    for name, value in figures["mmdet"].items():
        assert figures["hotcoco"][name] == pytest.approx(value, abs=5.1e-4)


def test_label_maps_are_timed():
    assert segmentation_times(64, 5, 1).keys() == {"mmrev", "mmseg"}


@pytest.mark.slow  # starts three processes
def test_report(capfd):
    print_evaluation_speed(4, 10, 3, 1)
    out = capfd.readouterr().out
    assert all(word in out for word in ("hotcoco", "pycocotools", "mmdet", "mmseg"))
