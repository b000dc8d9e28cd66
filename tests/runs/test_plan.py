"""Which way of training is recommended, and the price of one."""

import math
from argparse import Namespace
from dataclasses import replace

import pytest
import tiny_configs
from fake_trial import FakeTrial
from resolved import resolve

from mmrev.runs import plan
from mmrev.runs.config import load_config
from mmrev.runs.plan import Option, memory_keys, price, recommended
from mmrev.runs.typical import image_size

WAY = Option("store", "float32", "ddp", 2, peak=8.0, flops=4.0, seconds=1.0)


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        (dict(batch=1, flops=2.0), dict(precision="bfloat16", sharding="fsdp")),
        (dict(precision="bfloat16"), dict(memory="reverse", flops=6.0)),
        (dict(sharding="fsdp"), dict(memory="reverse", flops=6.0)),
        (dict(memory="reverse", flops=6.0), dict(memory="recompute", flops=5.0)),
        (dict(peak=11.0), dict(batch=1)),
    ],
)
def test_changes_as_little_as_fits(worse, better):
    ways = [replace(WAY, **worse), replace(WAY, **better)]
    assert recommended(ways, 10.0, "float32") == ways[1]
    assert recommended(ways[::-1], 10.0, "float32") == ways[1]
    assert recommended(ways, 7.0, "float32") is None


def test_the_price_of_a_config(tmp_path):
    cfg = load_config(tiny_configs.write_segmentation(tmp_path / "seg.py"))
    found = price(cfg, tflops=1e-3)
    assert found.flops > 0
    assert found.seconds == pytest.approx(2 * found.flops / 1e9)
    assert found.hours == pytest.approx(4 * found.seconds / 3600)
    cfg.model.backbone.memory = "store"
    stored = price(cfg, gpus=2, tflops=1e-3)
    assert stored.flops < found.flops
    assert stored.peak > found.peak


@pytest.mark.parametrize(
    ("dataset", "iterations"),
    [
        (
            dict(type="CocoDataset", ann_file="annotations/instances_train2017.json"),
            3 * math.ceil(118_287 / 16),
        ),
        (dict(type="RepeatDataset", times=2, dataset=dict(type="ImageNet")), None),
        (
            dict(type="mmrev.ScenesDetDataset", scenes=dict(num_training=100)),
            3 * math.ceil(100 / 16),
        ),
        (dict(type="CocoDataset", ann_file="mine.json"), None),
    ],
)
def test_iterations_of_epochs(tmp_path, dataset, iterations):
    cfg = load_config(tiny_configs.write_detection(tmp_path / "det.py"))
    cfg.train_cfg.max_epochs = 3
    cfg.train_dataloader.dataset = dataset
    assert plan._iterations(cfg, 16) == iterations


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("revcol/revcol-t_dino-4scale_8xb2-12e_coco", (800, 1333)),
        ("revcol/revcol-t_mask2former_8xb2-160k_ade20k-512x512", (512, 512)),
        ("revcol/revcol-t_mask2former_8xb2-lsj-50e_coco", (1024, 1024)),
        ("revcol/revcol-t_8xb128_in1k", (224, 224)),
        ("demo/revcol-demo_dino-3scale_scenes", (96, 96)),
        ("demo/revcol-demo_crops", (48, 48)),
    ],
)
def test_the_size_of_a_configs_images(name, size):
    cfg = resolve(name)
    assert image_size(cfg) == size


def test_keys_of_the_memory_modes():
    keys = memory_keys(resolve("revcol/revcol-t_dino-4scale-supervised_8xb2-12e_coco"))
    assert keys == ["model.model.backbone.memory"]
    name = "stitched/stitched-{}_dino-4scale_8xb2-12e_coco"
    keys = memory_keys(resolve(name.format("revcol-t-s-b")))
    assert keys == [f"model.backbone.anchors.{index}.memory" for index in range(3)]
    assert memory_keys(resolve(name.format("swin-t-s-b"))) == ["model.backbone.memory"]


@pytest.mark.parametrize(
    ("memory", "modes", "rows"),
    [
        (17.8, ("store", "store"), 2),  # the head was not tried
        (11.2, ("recompute", "store"), 4),
        (8.9, ("store", "recompute"), 4),
        (2.3, ("recompute", "recompute"), 4),
    ],
)
def test_the_head_where_the_backbone_does_not_do(
    tmp_path, monkeypatch, capsys, memory, modes, rows
):
    monkeypatch.setattr(plan, "Trial", FakeTrial)
    path = tiny_configs.write_detection(tmp_path / "det.py")
    args = Namespace(config=path, cfg_options=None, safe_config=False, size=None)
    vars(args).update(gpus=1, memory=memory, device="cpu", tflops=None, json=False)
    plan.plan(args)
    out = capsys.readouterr().out
    backbone, head = modes
    assert f"model.backbone.memory={backbone}" in out
    assert ("head_memory=recompute" in out) == (head == "recompute")
    assert len(FakeTrial.measured) == rows
