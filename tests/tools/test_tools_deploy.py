"""tools/deploy.py: what it writes is the same model, and loads by itself."""

import copy
import re
import shutil

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmrev.checkpoints import load_checkpoint_file
from mmrev.evaluation.predictions import read_predictions
from mmrev.models.layers import Deployable
from mmrev.runs import deploy as module

REVCOL = """\
    type="mmrev.RevCol",
    arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_columns=2),
    drop_path_rate=0.1,
"""
VANILLANET = """\
    type="mmrev.VanillaNet",
    arch=dict(channels=[8, 8, 16, 24, 32], strides=[1, 2, 2, 2]),
"""
REDUCENET = """\
    type="mmrev.ReduceNet",
    arch=dict(channels=[8, 16, 24, 32], depths=[2, 1, 1, 1], expansion=2),
"""
FADE = 'custom_hooks = [dict(type="mmrev.FadeHook", end=1, by_epoch=True)]\n'
FADE_ITERATIONS = FADE.replace("True", "False")


@pytest.fixture(scope="module")
def trained(project, train, tmp_path_factory):
    """A trained model of each task: {config: checkpoint}."""
    root = tmp_path_factory.mktemp("deploy")
    made = {}
    for name, backbone, fade in (
        ("det.py", VANILLANET, FADE),
        ("seg.py", REDUCENET, FADE_ITERATIONS),
    ):
        text = (project / name).read_text()
        assert REVCOL in text
        config = root / name
        config.write_text(text.replace(REVCOL, backbone) + fade)
        train(config, "--work-dir", root / config.stem)
        made[config] = sorted((root / config.stem).glob("*.pth"))[-1]
    return made


@pytest.fixture(params=["det", "seg"])
def task(request, trained):
    return next((c, p) for c, p in trained.items() if c.stem == request.param)


def predictions(run, config, checkpoint, folder):
    """Scores of a detector, classes of a segmentor."""
    out = folder / "predictions.npz"
    result = run("test", config, checkpoint, "--work-dir", folder, "--out", out)
    assert result.status == 0, result.err
    kept = []
    for _, sample in read_predictions(out):
        found = sample.get("pred_instances") or sample["pred_sem_seg"]
        kept.append(found.get("scores", found.get("data")).double())
    return torch.cat([values.flatten() for values in kept])


def test_deployed_model_predicts_the_same(run, task, tmp_path):
    config, checkpoint = task
    out = tmp_path / "fused" / "small.pth"
    result = run("deploy", config, checkpoint, out, "--size", 64)
    assert result.status == 0, result.err
    assert re.search(r"largest output difference \d\.\de-\d+", result.out)
    for column in ("params M", "GMACs", "ms", "training form", "deployed"):
        assert column in result.out
    assert sorted(p.name for p in out.parent.iterdir()) == ["small.pth", "small.py"]
    before = predictions(run, config, checkpoint, tmp_path / "before")
    after = predictions(run, out.with_suffix(".py"), out, tmp_path / "after")
    assert before.unique().numel() > 1
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_written_files_load_on_their_own(run, task, tmp_path):
    config, checkpoint = task
    run("deploy", config, checkpoint, tmp_path / "out.pth", "--size", 32)
    cfg = Config.fromfile(tmp_path / "out.py")
    init_default_scope(cfg.default_scope)
    model = MODELS.build(cfg.model).eval()
    assert model.backbone.deploy
    saved = load_checkpoint_file(tmp_path / "out.pth")
    model.load_state_dict(saved["state_dict"], strict=True)
    assert saved["meta"]["dataset_meta"]["classes"]
    unfused = MODELS.build(Config.fromfile(config).model).eval()
    unfused.load_state_dict(load_checkpoint_file(checkpoint)["state_dict"])
    image = torch.randn(1, 3, 50, 70)
    for level, wanted in zip(
        model.backbone(image), unfused.backbone(image), strict=True
    ):
        torch.testing.assert_close(level, wanted, rtol=0, atol=1e-4)


@pytest.fixture
def refused(run, tmp_path):
    """Deploy what must fail; return the one line."""

    def call(config, checkpoint, out=tmp_path / "refused.pth"):
        result = run("deploy", config, checkpoint, out, "--size", "32")
        assert result.status == 1
        (line,) = result.err.splitlines()
        assert line.startswith("error: ")
        assert not list(tmp_path.rglob("refused.*"))
        return line

    return call


def test_mistakes_are_one_line(refused, task, project, tmp_path):
    config, checkpoint = task
    assert "config not found: dett.py" in refused("dett.py", checkpoint)
    assert "nowhere.pth does not exist" in refused(config, "nowhere.pth")
    assert "must end in .pth, got out" in refused(config, checkpoint, "out")
    shutil.copy(config, tmp_path / "taken.py")
    line = refused(config, checkpoint, tmp_path / "taken.pth")
    assert "taken.py exists already" in line
    shutil.copy(checkpoint, tmp_path / "truncated.pth")
    with (tmp_path / "truncated.pth").open("r+b") as file:
        file.truncate(1000)
    assert "truncated.pth cannot be read" in refused(config, tmp_path / "truncated.pth")
    line = refused("det.py", "work_dirs/det/epoch_2.pth")
    assert "expected one backbone that can be deployed" in line and "got 0" in line
    line = refused(config, "work_dirs/det/epoch_2.pth")
    assert "does not fit the model" in line and "missing (backbone." in line


def test_refuses_what_is_not_faded_or_deployed_already(refused, run, task, tmp_path):
    config, checkpoint = task
    run("deploy", config, checkpoint, tmp_path / "once.pth", "--size", 32)
    line = refused(tmp_path / "once.py", tmp_path / "once.pth")
    assert "is deployed already" in line
    content = copy.deepcopy(load_checkpoint_file(checkpoint))
    name = next(key for key in content["state_dict"] if key.endswith("fade"))
    content["state_dict"][name].fill_(0.25)
    torch.save(content, tmp_path / "half.pth")
    line = refused(config, tmp_path / "half.pth")
    assert "half.pth: " in line and "expected a finished fade (0)" in line
    assert "got 0.25" in line


def test_a_difference_is_an_error(refused, task, monkeypatch):
    switch = Deployable.switch_to_deploy

    def wrong(self):
        switch(self)
        with torch.no_grad():
            next(self.parameters()).mul_(1.001)

    monkeypatch.setattr(Deployable, "switch_to_deploy", wrong)
    assert "expected at most 1e-05; nothing was written" in refused(*task)
    assert module.TOLERANCE == 1e-5
