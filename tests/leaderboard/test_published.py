"""The published figures agree wherever this repository states them."""

from pathlib import Path

import pytest
import yaml

from mmrev.leaderboard.published import published_records
from mmrev.studies.published import ROWS

CONFIGS = Path(__file__).parents[2] / "configs"
METRICS = {
    "box AP": ("coco/bbox_mAP", 100),
    "mask AP": ("coco/segm_mAP", 100),
    "mIoU": ("mIoU", 1),
    "mIoU(ms+flip)": ("mIoU", 1),
    "Top 1 Accuracy": ("accuracy/top1", 1),
}


@pytest.fixture(scope="module")
def records():
    return published_records()


def test_all_are_there_once(records):
    assert len({record.id for record in records}) == len(records)
    families = {record.model.family for record in records}
    assert families == {
        *("NFNet", "ReduceNet", "ResNet", "RevCol", "RevColV2", "Stitched"),
        *("Swin", "Swin-V2", "VanillaNet", "ViT"),
    }
    heads = {record.model.head for record in records if record.model.family == "Swin"}
    assert heads == {"DINO", "Mask2Former"}


def test_metafiles_state_the_same_results(records):
    stated = set()
    for path in CONFIGS.glob("*/metafile.yml"):
        for model in yaml.safe_load(path.read_text())["Models"]:
            for result in model.get("Results", []):
                assert result["Status"] == "published"
                for name, value in result["Metrics"].items():
                    flipped = name.endswith("(ms+flip)")
                    key, scale = METRICS[name]
                    row = (model["Name"], result["Dataset"], key, flipped)
                    stated.add((*row, round(value / scale, 4)))
    held = {
        (record.config, record.dataset.name, key, flipped, value)
        for record in records
        if record.config is not None
        for key, value in record.metrics.items()
        for flipped in ["multi-scale and flipped" in record.protocols]
    }
    assert stated and held == stated


def test_named_configs_exist_and_train_as_long(records):
    for record in records:
        if record.config is None:
            continue
        (path,) = CONFIGS.glob(f"*/{record.config}.py")
        metafile = yaml.safe_load((path.parent / "metafile.yml").read_text())
        (model,) = (m for m in metafile["Models"] if m["Name"] == record.config)
        metadata, training = model["Metadata"], record.training
        if training.epochs:
            assert metadata["Epochs"] == training.epochs
        if training.iterations:
            assert metadata["Iterations"] == training.iterations
        if training.pretraining:
            assert metadata["Pretraining Data"] == training.pretraining[0]


NOT_MEASURED = ("F7", "F3+", "F4+", "F7+")


def test_sizes_are_those_of_the_models_table(records):
    """Every row of `mmrev.studies.published` whose accuracy is published, too."""
    unknown = {"RevCol-XL", "RevColV2-B", *map("NFNet-{}".format, NOT_MEASURED)}
    for row in ROWS:
        if "experts" in row.model:  # published for ImageNet-22k, of another block
            continue
        name = row.model.partition(" ")[0]  # Swin-V2's window follows
        sizes = [
            (model.params, model.flops)
            for model in (record.model for record in records)
            if model.name == name and model.flops_shape == (row.image_size,) * 2
        ]
        params, flops = (
            figure and pytest.approx(float(figure) * scale)
            for figure, scale in ((row.params, 1e6), (row.flops, 1e9))
        )
        found = [
            size
            for size in sizes
            if params in (None, size[0]) and flops in (None, size[1])
        ]
        assert found or name in unknown, row.model
