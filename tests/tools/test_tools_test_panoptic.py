"""tools/test.py on a panoptic model, which PyPI's mmdet cannot evaluate by itself."""

import json

import data_layouts
import numpy as np
import pytest
import tiny_configs
import torch
from mmdet.registry import MODELS

from mmrev.evaluation.predictions import read_predictions
from mmrev.runs.config import load_config


@pytest.fixture
def weights(project):
    """An untrained model; to train one, mmdet needs panopticapi."""
    data_layouts.make_coco_panoptic(project)
    config = load_config(tiny_configs.write_panoptic(project / "pan.py"))
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    torch.save(dict(state_dict=model.state_dict()), project / "pan.pth")
    return "pan.pth"


def test_a_record_that_verifies(run, weights, tmp_path):
    result = run(
        *("test", "pan.py", weights, "--work-dir", tmp_path),
        *("--out", tmp_path / "out.npz"),
    )
    assert result.status == 0, result.err
    (path,) = (tmp_path / "records").glob("pan-*.json")
    record = json.loads(path.read_text())
    assert record["task"] == "panoptic segmentation"
    assert record["protocols"] == ["COCO panoptic (hotcoco 1.3.0)"]
    assert record["dataset"]["type"] == "CocoPanopticDataset"
    assert record["dataset"]["images_evaluated"] == 4
    names = [f"{name}{of}" for of in ("", "_th", "_st") for name in ("PQ", "SQ", "RQ")]
    assert list(record["metrics"]) == [f"coco_panoptic/{name}" for name in names]
    assert all(0 <= value <= 100 for value in record["metrics"].values())
    stored = dict(read_predictions(tmp_path / "out.npz"))
    assert len(stored) == 4
    for sample in stored.values():
        ids = sample["pred_panoptic_seg"]["sem_seg"]
        assert ids.shape == (1, *sample["ori_shape"])
        assert len(np.unique(ids)) > 1  # else nothing is proven
    verified = run("leaderboard", "verify", path, "--files", ".")
    assert verified.status == 0, verified.out
    assert "not checked" not in verified.out and verified.out.count("sound") == 6
