"""tools/analysis/features.py end to end."""

import json

import pytest
from mmengine.model import BaseModel

from mmrev.hashes import file_sha256
from mmrev.registry import MODELS
from mmrev.studies.features.report import Report

DET, SEG = "work_dirs/det/epoch_2.pth", "work_dirs/seg/iter_4.pth"
SMALL = ("--images", 4, "--batch-size", 4, "--field-images", 1)
TOOL = "analysis/features"
WITHOUT_LABELS = (
    "test_dataloader.dataset.pipeline=["
    "{'type': 'LoadImageFromFile'}, {'type': 'Resize', 'scale': (64, 64)}, "
    "{'type': 'PackDetInputs', 'meta_keys': ('img_shape',)}]"
)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures take longer than what they show, and are looked at elsewhere."""
    monkeypatch.setattr("mmrev.studies.features.run.draw", lambda report, suffix: b"")


@pytest.mark.parametrize(
    ("config", "checkpoint", "label"),
    [
        ("det.py", DET, "which of 80 classes are in the image"),
        ("seg.py", SEG, "which of 150 classes are in the image"),
        ("cls.py", None, "class of the image, one of 4"),
    ],
)
def test_every_task(run, tmp_path, config, checkpoint, label):
    out = tmp_path / "a/found.json"
    weights = [checkpoint] if checkpoint else []
    result = run(TOOL, config, *weights, *SMALL, "--size", 64, 64, "--out", out)
    assert result.status == 0 and result.err == ""
    assert f"report: {out}, figure: {out.with_suffix('.png')}" in result.out
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    report = Report.model_validate_json(out.read_bytes())
    assert (report.label, report.images, report.input_shape) == (label, 4, (64, 64))
    assert [(s.column, s.level) for s in report.states] == [
        (column, level) for column in (0, 1) for level in range(4)
    ]
    assert all(s.field.area_95 and s.image.value for s in report.states)
    assert 1e-7 < report.blocks[0].layer_scale.mean < 0.01
    if checkpoint:
        assert report.checkpoint.sha256 == file_sha256(checkpoint)
        assert "initial" not in result.out
    else:
        assert report.checkpoint is None
        assert "no checkpoint: the weights are those that a train" in result.out


def test_the_config_has_the_hash_of_a_record(run, tmp_path, undrawn):
    out = tmp_path / "found.json"
    options = (*SMALL, "--size", 64, 64, "--out", out)
    assert run(TOOL, "det.py", DET, *options).status == 0
    assert run("test", "det.py", DET, "--work-dir", tmp_path).status == 0
    (path,) = tmp_path.glob("records/det-*.json")
    record = json.loads(path.read_text())
    found = json.loads(out.read_text())
    assert found["config"]["sha256"] == record["config"]["sha256"]
    assert found["checkpoint"] == record["checkpoint"]


def test_the_same_seed_finds_the_same(run, tmp_path, undrawn):
    reports = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        out = tmp_path / f"{name}.json"
        options = ("--seed", seed, "--split", "train", "--levels", 1, 3, "--out", out)
        assert run(TOOL, "cls.py", *SMALL, *options).status == 0
        reports.append(Report.model_validate_json(out.read_bytes()))
    one, again, other = reports
    assert [state.level for state in one.states] == [1, 3, 1, 3]
    assert one.states == again.states and one.blocks == again.blocks
    assert one.states != other.states


def test_data_without_labels(run, tmp_path, undrawn):
    options = ("--out", tmp_path / "a.json", "--cfg-options", WITHOUT_LABELS)
    result = run(TOOL, "det.py", DET, *SMALL, "--size", 64, 64, *options)
    assert result.status == 0
    assert "no labels in the test data" in result.out
    report = Report.model_validate_json((tmp_path / "a.json").read_bytes())
    assert report.label is None and {s.label for s in report.states} == {None}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--batch-size", 3), "below which the unbiased CKA is not defined, got 512"),
        (("--images", 3), "expected --images and --batch-size of 4 or more"),
        (("--field-images", -1), "--field-images: expected 0 or more, got -1"),
        (("--size", 0, 64), "--size: expected H and W of 1 or more, got 0 64"),
        (("--plot", "a.jpg"), "--plot must end in .png, .svg, .pdf, got a.jpg"),
        (("--out", "a.txt"), "--out must end in .json, got a.txt"),
        (("--out", "det.py/a.json"), "--out: cannot make det.py (File exists)"),
        (("--device", "cuda:9"), "--device cuda:9 cannot be used: "),
        (("--device", "nowhere"), "--device nowhere cannot be used: "),
        (("--size", 64, 64, "--levels", 1, 9), "expected of 0, 1, 2, 3, got 9."),
        ((), "images have unlike sizes, as 43x64 and 64x"),
        (
            ("--cfg-options", "test_dataloader.dataset.data_root=nowhere"),
            "data not found: nowhere",
        ),
        (("--cfg-options", "test_dataloader=None"), "no test_dataloader"),
        (
            ("--cfg-options", "test_dataloader.dataset.indices=3"),
            "expected 4 images or more, below which the unbiased CKA is not defined, "
            "got 3 of --split test",
        ),
        (
            ("--cfg-options", "test_cfg.stitches=[1]"),
            "test_cfg.stitches: Expected a model with a mmrev.StitchedBackbone",
        ),
        ((DET, "nowhere.pth"), "unrecognized arguments: nowhere.pth"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, argv, message):
    result = run(TOOL, "det.py", *argv)
    assert result.status in (1, 2)
    line = result.err.splitlines()[-1]
    assert "error: " in line and message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("det.py", SEG), "does not fit the model of det.py"),
        (("det.py", "nowhere.pth"), "nowhere.pth does not exist"),
        (("det.py", "https://a/b.pth"), "https://a/b.pth: download it and give"),
        (("dett.py",), "config not found: dett.py; did you mean 'det.py'?"),
    ],
)
def test_what_is_given_does_not_fit(run, argv, message):
    result = run(TOOL, *argv)
    (line,) = result.err.splitlines()
    assert result.status == 1 and line.startswith("error: ") and message in line


class Bare(BaseModel):
    def forward(self, inputs, data_samples=None, mode="tensor"):
        return inputs


def test_a_model_without_a_backbone(run, project, tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, "Bare", Bare)
    config = tmp_path / "bare.py"
    model = "model = dict(_delete_=True, type='mmrev.Bare')\ndata_preprocessor = None"
    config.write_text(f"_base_ = {str(project / 'cls.py')!r}\n{model}\n")
    result = run(TOOL, config)
    assert result.status == 1
    assert "expected a model with a backbone, got Bare without." in result.err
