"""What a record tells of the training."""

import json

import pytest
from make_records import measured

from mmrev.leaderboard.lineage import PROCESSES_KEY, SKIPPED_KEY, training_info
from mmrev.leaderboard.table import conditions

CONFIG = {
    "model": {
        "backbone": {
            "anchors": [
                {"init_cfg": {"type": "Pretrained", "checkpoint": "data/a/small.pth"}},
                {"init_cfg": {"type": "Pretrained", "checkpoint": "https://a.org/b"}},
            ]
        },
        "neck": {"init_cfg": None},
        # mmengine takes a list, too.
        "head": {
            "init_cfg": [
                {"type": "Normal", "layer": "Conv2d"},
                {"type": "Pretrained", "checkpoint": "head.pth"},
            ]
        },
    },
    "train_cfg": {"max_epochs": 3},
    "train_dataloader": {
        "dataset": {
            "type": "RepeatDataset",
            "dataset": {"type": "CocoDataset", "ann_file": "annotations/train.json"},
        }
    },
}


def test_starts_data_and_length():
    found = training_info(CONFIG, "/home/me/o365.pth", {"epoch": 3, "iter": 30}, "x")
    assert found.pretraining == [
        *("small.pth", "https://a.org/b", "head.pth", "o365.pth")
    ]
    assert found.data == "CocoDataset annotations/train.json"
    assert (found.epochs, found.iterations, found.curves) == (3, 30, {})
    loop = {**CONFIG, "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 30}}
    assert training_info(loop, None, {"epoch": 0, "iter": 30}, "x").epochs is None


def test_data_sets_that_are_joined_are_all_named():
    sets = [
        {"type": "CocoDataset", "ann_file": "a.json"},
        {"type": "RepeatDataset", "dataset": {"type": "CocoDataset", "ann_file": "b"}},
        {"type": "ADE20KDataset", "data_prefix": {"img_path": "images/train"}},
    ]
    joined = {"type": "ConcatDataset", "datasets": sets}
    mixed = {"type": "MultiImageMixDataset", "pipeline": [], "dataset": joined}
    found = training_info({"train_dataloader": {"dataset": mixed}}, None, {"a": 1}, "x")
    names = ("CocoDataset a.json", "CocoDataset b", "ADE20KDataset images/train")
    assert found.data == ", ".join(names)


def test_what_became_of_the_backbone():
    """The training knows best; then the config that it is tested with."""
    backbone = {"type": "mmrev.RevCol", "init_cfg": {"checkpoint": "a.pth"}}
    config = {**CONFIG, "model": {"backbone": backbone}}
    frozen = {"type": "mmrev.FrozenBackbone", "of": "mmrev.RevCol"}
    for one, meta, track in (
        (config, {"iter": 30}, "tuned"),
        (config, {"iter": 30, "track": "frozen"}, "frozen"),
        (config, {"iter": 30, "track": ["of", "others"]}, "tuned"),
        (config, {}, None),
        ({**CONFIG, "model": {"backbone": frozen}}, {"iter": 30}, "frozen"),
        ({**CONFIG, "model": {"backbone": {}}}, {"iter": 30}, "scratch"),
        ({**CONFIG, "model": {}}, {"iter": 30}, None),
    ):
        assert training_info(one, None, meta, "x").track == track
    # Records of before it was noted keep their hash.
    assert "track" not in json.loads(measured().to_bytes())["training"]


def test_images_that_training_skipped():
    found = {"faults": {"a.jpg": "no image", "b.jpg": "a folder"}, "draws": 7}
    meta = {"iter": 30, SKIPPED_KEY: {**found, "total": 40}}
    skipped = training_info(CONFIG, None, meta, "x").skipped
    assert (skipped.images, skipped.total, skipped.draws) == (2, 40, 7)
    assert skipped.told == "2 of 40 training images"
    record = measured(training={"epochs": 3, "skipped": skipped})
    assert conditions(record) == "3 epochs; without 2 of 40 training images"
    # Records of before it was counted keep their hash.
    assert "skipped" not in json.loads(measured().to_bytes())["training"]


def test_how_training_went():
    meta = {"iter": 30, "deterministic": True, "skipped_steps": 2}
    found = training_info(CONFIG, None, meta, "x")
    assert found.deterministic and found.skipped_steps == 2
    told = {"deterministic", "skipped_steps"}
    assert told < found.model_dump(exclude_defaults=True).keys()
    found = training_info(CONFIG, None, {"iter": 30, "deterministic": False}, "x")
    assert found.deterministic is None
    # Records of before it was told keep their hash.
    assert not told & json.loads(measured().to_bytes())["training"].keys()


def test_a_batch_is_that_of_all_processes():
    config = {**CONFIG, "train_dataloader": {"batch_size": 16}}
    meta = {"iter": 30, PROCESSES_KEY: 4}
    assert training_info(config, None, meta, "x").batch == 64
    assert training_info(CONFIG, None, meta, "x").batch is None
    assert training_info(config, None, {"iter": 30}, "x").batch is None
    # Records of before it was told keep their hash.
    assert "batch" not in json.loads(measured().to_bytes())["training"]


def test_weights_that_say_nothing_claim_nothing():
    found = training_info(CONFIG, None, {}, "official.pth")
    assert found.data is found.epochs is found.iterations is None


def test_curves_are_thinned_and_of_this_checkpoint(tmp_path):
    def log(folder, lines):
        file = tmp_path / folder / "vis_data/scalars.json"
        file.parent.mkdir(parents=True)
        file.write_text("\n".join(lines))

    def line(step, loss):
        return json.dumps({"lr": 0.1, "loss": loss, "step": step, "time": 1.0})

    log("1", [*(line(step, 1.0) for step in range(1, 501)), '{"lr": 0.1, "lo'])
    validation = json.dumps({"coco/bbox_mAP": 0.5, "step": 7, "loss": 9.0})
    log("2", [validation, *(line(step, 2.0) for step in range(301, 1001))])
    log("3", [line(1000, float("nan")), json.dumps([1]), json.dumps({"step": "x"})])
    found = training_info(CONFIG, None, {"iter": 800}, tmp_path / "iter_800.pth")
    assert found.curves.keys() == {"loss", "lr"}
    loss = found.curves["loss"]
    assert len(loss.steps) == 200 and loss.steps[0] == 1 and loss.steps[-1] == 800
    # The second run went on from iteration 300 and did some of them again.
    for step, value in zip(loss.steps, loss.values, strict=True):
        assert value == (1.0 if step <= 300 else 2.0)


@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff\xfe", b"", b"[]\n{}", b"[" * 100_000),
        b'{"lr": 0.1, "loss": 1, "step": Infinity}',
        b'{"lr": 1%s, "loss": 1, "step": 99}' % (b"0" * 400),
    ],
)
def test_a_damaged_log_gives_no_curve(tmp_path, content):
    file = tmp_path / "1/vis_data/scalars.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert training_info(CONFIG, None, {"iter": 9}, tmp_path / "a.pth").curves == {}
