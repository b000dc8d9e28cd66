"""A stitched detector: trained with its hooks, tested, and listed."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmrev.analysis.stitches import load_costs, pick_stitch
from mmrev.checkpoints import load_checkpoint_file
from mmrev.leaderboard.fingerprint import file_sha256

REVCOL = """\
    type="mmrev.RevCol",
    arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_columns=2),
    drop_path_rate=0.1,
"""
STITCHED = """\
    type="mmrev.StitchedBackbone",
    anchors=[
        dict(
            type="mmrev.ReduceNet",
            arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, n, 1], expansion=1),
            norm_eval=True,
        )
        for n in (2, 4)
    ],
    routes=dict(stages=(2,), monotone=True),
"""
HOOKS = """\
custom_hooks = [
    dict(type="mmrev.StitchFitHook", num_images=3, tokens=16),
    dict(type="mmrev.StitchSamplerHook"),
]
"""


@pytest.fixture(scope="module")
def trained(project, train, tmp_path_factory):
    root = tmp_path_factory.mktemp("stitches")
    text = (project / "det.py").read_text()
    assert REVCOL in text
    config = root / "stitched.py"
    text = text.replace(REVCOL, STITCHED).replace('    out_norm="layer_norm",\n', "")
    config.write_text(text + HOOKS)
    train(config, "--work-dir", root / "work")
    return config, sorted((root / "work").glob("*.pth"))[-1]


def test_training_fits_samples_and_is_tested(run, trained, tmp_path):
    config, checkpoint = trained
    weights = load_checkpoint_file(checkpoint)["state_dict"]
    assert len(weights["backbone.route_table"]) == 3
    log = next((checkpoint.parent).glob("*/*.log")).read_text()
    assert "R2 of the stitches' least squares" in log
    result = run("test", config, checkpoint, "--work-dir", tmp_path)
    assert result.status == 0, result.err
    (record,) = (tmp_path / "records").glob("*.json")
    assert json.loads(record.read_text())["model"]["backbone"] == "StitchedBackbone"


def test_every_stitch_leaves_a_record(run, trained, tmp_path):
    config, checkpoint = trained
    own = tmp_path / "all.py"
    loop = 'test_cfg = dict(type="mmrev.StitchTestLoop", stitches=[0, 1, 3])\n'
    own.write_text(config.read_text() + loop)
    dump = tmp_path / "boxes.pkl"
    result = run("test", own, checkpoint, "--work-dir", tmp_path, "--out", dump)
    assert result.status == 0, result.err
    records = [json.loads(p.read_text()) for p in (tmp_path / "records").glob("*")]
    found = {record["model"]["stitch"]: record for record in records}
    assert set(found) == {0, 1, 3} and len(records) == 3
    for stitch, record in found.items():
        name = f"boxes-stitch{stitch}.pkl"
        assert record["predictions"]["name"] == name
        assert file_sha256(tmp_path / name) == record["predictions"]["sha256"]
    assert found[0]["model"]["params"] < found[1]["model"]["params"]
    assert found[0]["model"]["flops"] < found[1]["model"]["flops"]
    own.write_text(config.read_text() + loop.replace("3]", "7]"))
    result = run("test", own, checkpoint, "--work-dir", tmp_path / "bad")
    assert result.status == 1 and "must lie in 0..4" in result.err


def test_the_table(run, trained, tmp_path):
    config, checkpoint = trained
    out = tmp_path / "costs.json"
    settings = ("--size", "64", "--repeats", "1", "--out", out)
    result = run("stitches", config, checkpoint, *settings)
    assert result.status == 0, result.err
    assert "0 >(s2: 0>1)> 1" in result.out and "GMACs" in result.out
    costs = load_costs(out)
    assert [cost.id for cost in costs] == list(range(5))
    # Of the same widths; a stitch that crosses early runs one layer more.
    assert costs[0].flops < costs[1].flops < costs[2].flops
    assert all(cost.latency_ms > 0 and cost.memory_mb > 0 for cost in costs)
    assert pick_stitch(costs) == 2
    assert pick_stitch(costs, gflops=costs[1].flops / 1e9) == 1


@pytest.mark.parametrize("stitch", range(5))
def test_an_exported_stitch_is_the_same_model(run, trained, tmp_path, stitch):
    config, checkpoint = trained
    out = tmp_path / f"stitch{stitch}.pth"
    result = run("export_stitch", config, checkpoint, stitch, out)
    assert result.status == 0, result.err
    before, after = map(int, re.findall(r"[\d,]+\d", result.out.replace(",", "")))
    assert after < before
    models = []
    for path, weights in ((config, checkpoint), (out.with_suffix(".py"), out)):
        cfg = Config.fromfile(path)
        init_default_scope(cfg.default_scope)
        models.append(MODELS.build(cfg.model).eval())
        models[-1].load_state_dict(load_checkpoint_file(weights)["state_dict"])
    models[0].backbone.set_stitch(stitch)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        levels = [model.backbone(image) for model in models]
    assert all(map(torch.equal, *levels))
    small = models[1].backbone
    assert sum(p.numel() for p in small.parameters()) == after
    assert after == sum(p.numel() for p in models[0].backbone.parameters_of(stitch))
    with pytest.raises(ValueError, match=f"must lie in {stitch}..{stitch} "):
        small.set_stitch((stitch + 1) % 5)
    # It trains on, and is tested, as any model.
    small.train()
    sum(level.mean() for level in small(image)).backward()
    result = run("test", out.with_suffix(".py"), out, "--work-dir", tmp_path / "work")
    assert result.status == 0, result.err


def test_what_cannot_be_exported(run, trained, tmp_path):
    for arguments, message in (
        ((*trained, 9, tmp_path / "a.pth"), r"stitch 9: .* must lie in 0\.\.4"),
        ((*trained, 1, tmp_path / "a.zip"), "OUT must end in .pth"),
        ((*trained, 1, trained[1]), "exists already"),
        (("det.py", trained[1], 1, tmp_path / "a.pth"), "got RetinaNet without"),
    ):
        result = run("export_stitch", *arguments)
        assert result.status == 1 and re.search(message, result.err), result.err
        assert result.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "checkpoint", "message"),
    [
        ("det.py", None, "StitchedBackbone, got RetinaNet without"),
        ("nowhere.py", None, "config not found: nowhere.py"),
        ("stitched", "nowhere.pth", "nowhere.pth"),
    ],
)
def test_mistakes_are_one_line(run, trained, config, checkpoint, message):
    config = trained[0] if config == "stitched" else config
    result = run("stitches", config, *([checkpoint] if checkpoint else []))
    assert result.status == 1
    assert message in result.err and result.err.count("\n") == 1
