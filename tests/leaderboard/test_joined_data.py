"""Records of tests on several data sets, joined and wrapped in every way."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import data_layouts
import numpy as np
import pytest
import tiny_configs
from make_records import measured
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from test_verify import failures, flip, rewritten, sample_of, states, unchecked

from mmrev.engine.hooks.record import _dataset
from mmrev.evaluation.predictions import FORMAT, read_predictions
from mmrev.hashes import file_sha256
from mmrev.leaderboard.fingerprint import dataset_sha256, portable
from mmrev.leaderboard.store import read_record, save_record
from mmrev.wrappers import change_settings, plain_datasets

ADE, COCO = "data/ade/ADEChallengeData2016", "data/coco/"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Beside each data set another, whose images have the same names."""
    root = tmp_path_factory.mktemp("project")
    data_layouts.make_coco(root)
    data_layouts.make_ade20k(root)
    # A root that begins like the other.
    shutil.copytree(root / ADE, root / f"{ADE}_more")
    for path in (root / f"{ADE}_more/annotations/validation").iterdir():
        Image.fromarray(np.roll(np.asarray(Image.open(path)), 5)).save(path)
    file = root / COCO / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    for one in content["images"]:
        one["id"] += 100
    for one in content["annotations"]:
        one["id"], one["image_id"] = one["id"] + 1000, one["image_id"] + 100
    file.write_text(json.dumps(content))
    return root


def joined(one: dict, other: dict) -> dict:
    inside = {"type": "RepeatDataset", "times": 2, "dataset": other}
    return {"type": "ConcatDataset", "datasets": [one, inside]}


def make(folder: Path, write, change, evaluator: dict | None = None) -> Path:
    """What a test on a data set and a changed copy leaves, without the model."""
    config = Config.fromfile(write(folder / "tiny.py"))
    one = config.test_dataloader.dataset.to_dict()
    config.test_dataloader.dataset = joined(one, change(deepcopy(one)))
    config.test_evaluator = evaluator or config.test_evaluator
    task = "detection" if "Coco" in one["type"] else "semantic segmentation"
    init_default_scope(config.default_scope)
    settings = config.test_dataloader.dataset.to_dict()
    bare = change_settings(settings, lambda plain: {**plain, "pipeline": []})
    datasets = list(plain_datasets(DATASETS.build(bare)))
    dump = {
        "type": "mmrev.DumpPredictions",
        "out_file_path": str(folder / "out.npz"),
        "data_root": list(dict.fromkeys(one.data_root for one in datasets)),
    }
    tester = Evaluator([config.test_evaluator, dump])
    tester.dataset_meta = datasets[0].metainfo
    infos = [one.get_data_info(i) for one in datasets for i in range(len(one))]
    for index, info in enumerate(infos):
        sample = sample_of(task, info, index)
        tester.process([sample | {"instances": info.get("instances")}])
    metrics = tester.evaluate(len(infos))
    (folder / "epoch_1.pth").write_bytes(b"weights" * 100)
    resolved = portable(config.to_dict())
    file = folder / "out.npz"
    record = measured(
        task=task,
        config={"name": "tiny", "resolved": resolved},
        metrics={name: None if v != v else v for name, v in metrics.items()},
        checkpoint={"sha256": file_sha256(folder / "epoch_1.pth")},
        predictions={"name": file.name, "sha256": file_sha256(file), "format": FORMAT},
        dataset=_dataset(datasets, resolved, len(infos)),
    )
    return save_record(record, folder / "records")


def test_label_maps_of_two_data_roots(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    more = f"{ADE}_more"
    path = make(
        tmp_path,
        tiny_configs.write_segmentation,
        lambda settings: {**settings, "data_root": more},
    )
    data = read_record(path).dataset
    fingerprints = [
        dataset_sha256(
            None, [f"{root}/{kind}/validation" for kind in ("images", "annotations")]
        )
        for root in (ADE, more)
    ]
    assert [part.fingerprint for part in data.parts] == fingerprints
    assert data.fingerprint not in fingerprints and data.split == "images/validation"
    assert [part.root for part in data.parts] == [ADE, more] and data.root == ""
    assert [part.folder for part in data.parts] == [0, 1]
    assert data.images_expected == data.images_evaluated == 8  # none twice
    names = [name for name, _ in read_predictions(tmp_path / "out.npz")]
    ending = [f"images/validation/ADE_val_{i:08d}.jpg" for i in range(1, 5)]
    assert names == [f"{n}/{name}" for n in range(2) for name in ending]
    assert set(states(path).values()) == {"sound"}, states(path)
    # Elsewhere, too; and an altered file of the second is found.
    shutil.copytree(more, tmp_path / "copied")
    shutil.move(more, tmp_path / "moved")
    assert unchecked(path)["annotations"].startswith("no images/validation")
    roots = [tmp_path / "copied"]
    assert failures(path, data_roots=roots) == {}
    flip(tmp_path / "copied/annotations/validation/ADE_val_00000003.png")
    assert str(roots[0]) in failures(path, data_roots=roots)["annotations"]
    shutil.move(tmp_path / "moved", more)


@pytest.mark.parametrize("metric", ["CocoMetric", "mmrev.CocoMetric"])
def test_boxes_of_two_annotation_files(project, tmp_path, monkeypatch, metric):
    monkeypatch.chdir(project)
    path = make(
        tmp_path,
        tiny_configs.write_detection,
        lambda settings: {
            **settings,
            "ann_file": "annotations/instances_train2017.json",
            "data_prefix": {"img": "train2017/"},
        },
        {"type": metric, "proposal_nums": (1, 10, 100)},
    )
    record = read_record(path)
    data = record.dataset
    files = [f"annotations/instances_{split}2017.json" for split in ("val", "train")]
    assert [part.split for part in data.parts] == files
    assert (data.name, data.split, data.root) == ("COCO", ", ".join(files), COCO)
    expected = [file_sha256(project / COCO / file) for file in files]
    assert [part.fingerprint for part in data.parts] == expected
    names = [name for name, _ in read_predictions(tmp_path / "out.npz")]
    assert names[0] == "val2017/000000000001.jpg" and len(set(names)) == 8
    assert set(states(path).values()) == {"sound"}, states(path)
    assert record.metrics["coco/bbox_mAP"] > 0

    def forge(content):
        content["dataset"]["parts"].reverse()

    forged = rewritten(path, forge)
    assert failures(forged)["annotations"] == "its parts hash to another"


def test_sets_without_files_are_told_apart(tmp_path):
    init_default_scope("mmpretrain")

    def described(**changes):
        one = {"type": "mmrev.DigitCrops", "split": "validation", "size": 16}
        settings = {**one, **changes, "pipeline": []}
        dataset = DATASETS.build(settings)
        config = {"test_dataloader": {"dataset": {**settings, "pipeline": [1]}}}
        return _dataset([dataset], config, len(dataset))

    plain = described()
    assert (plain.name, plain.split, plain.images_expected) == ("DigitCrops", "", 1000)
    changes = ({"size": 20}, {"scenes": {"seed": 5}}, {"num_rounds": 2})
    others = [described(**change) for change in changes]
    assert len({one.fingerprint for one in (plain, *others)}) == 4
    assert described().fingerprint == plain.fingerprint
