"""A stitched detector: trained with its hooks, tested, and listed."""

import json
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmrev.checkpoints import load_checkpoint_file
from mmrev.hashes import file_sha256
from mmrev.operating_points.costs import load_costs, pick_stitch

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
    dump = tmp_path / "boxes.npz"
    result = run("test", own, checkpoint, "--work-dir", tmp_path, "--out", dump)
    assert result.status == 0, result.err
    records = [json.loads(p.read_text()) for p in (tmp_path / "records").glob("*.json")]
    found = {record["model"]["stitch"]: record for record in records}
    assert set(found) == {0, 1, 3} and len(records) == 3
    for stitch, record in found.items():
        name = f"boxes-stitch{stitch}.npz"
        assert record["predictions"]["name"] == name
        assert file_sha256(tmp_path / name) == record["predictions"]["sha256"]
    assert found[0]["model"]["params"] < found[1]["model"]["params"]
    assert found[0]["model"]["flops"] < found[1]["model"]["flops"]
    # The list gets what they reached.
    listing = (*("--records", tmp_path), *("--repeats", 0, "--size", 64))
    out, page = tmp_path / "t.json", tmp_path / "p.html"
    files = ("--out", out, "--plot", page)
    result = run("stitches", config, checkpoint, *listing, *files)
    assert result.status == 0, result.err
    text = " ".join(result.out.split())
    assert "coco/bbox_mAP: 3 of all, epoch_2.pth" in text
    assert "without a record: 2, 4" in text and "both bbox_mAP and GMACs" in text
    metrics = {cost.id: cost.metric for cost in load_costs(out)}
    expected = {i: record["metrics"]["coco/bbox_mAP"] for i, record in found.items()}
    assert metrics == {2: None, 4: None} | expected
    assert "0 ReduceNet" in page.read_text()
    for arguments, message in (
        ((config, *listing), r"no record .* config stitched; found: 3 of all, epoch_2"),
        ((config, checkpoint, *listing, "--metric", "mIoU"), r"only coco/bbox_mAP, "),
        (
            (config, checkpoint, "--records", "nowhere"),
            r"none at all.*nowhere \(No such",
        ),
        ((config, checkpoint, "--plot", "p.html"), r"--plot p\.html needs .*--records"),
        ((config, checkpoint, "--metric", "mIoU"), r"--metric mIoU needs .*--records"),
        (
            (config, checkpoint, *listing, "--plot", "p.png"),
            r"\.html, got p\.png; the page's camera saves a PNG",
        ),
    ):
        result = run("stitches", *arguments)
        assert result.status == 1 and re.search(message, result.err), result.err
        assert result.err.count("\n") == 1
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


def test_a_stream_of_frames(run, trained, tmp_path):
    config, checkpoint = trained
    table, plot = tmp_path / "costs.json", tmp_path / "stream.png"
    run("stitches", config, checkpoint, "--size", 64, "--repeats", 1, "--out", table)
    frames = ("--frames", "data/coco/val2017", "--size", 64)
    model = (config, checkpoint, table, *frames)
    few = ("--count", 6, "--load", 1, "--plot", plot)
    result = run("analysis/stitch_stream", *model, "--budget-ms", 1e6, *few)
    assert result.status == 0, result.err
    # Of two stitches with as many operations, the one that happens to be faster.
    assert re.search(r"stitch \d throughout", result.out) and "controlled" in result.out
    assert "backbone alone, 64 x 64, CPU" in result.out
    assert plot.read_bytes()[1:4] == b"PNG"
    other = tmp_path / "other.json"
    other.write_text(table.read_text().replace("(s2: 0>1)", "(s2: 0>2)"))
    (tmp_path / "empty").mkdir()
    budget = ("--budget-ms", 1e6)
    for arguments, message in (
        (
            (*model, "--budget-ms", 1e-6),
            r"no stitch meets budget_ms=1e-06; the fastest",
        ),
        ((*model, *budget, "--size", 96), r"costs of images of --size 96, got those"),
        (
            (*model, *budget, "--frames", "nowhere"),
            r"a folder with images, got nowhere",
        ),
        ((*model, *budget, "--frames", tmp_path / "empty"), r"no image .* in .*empty"),
        ((*model, *budget, "--count", 2), r"--count >= 3 and --load >= 1, got 2"),
        ((*model, *budget, "--plot", "a.pdf"), r"must end in \.png, got a\.pdf"),
        (
            (*model[:2], other, *frames, *budget),
            r"other\.json: expected the 5 stitches",
        ),
        ((*model[:2], "none.json", *frames, *budget), r"none\.json: No such file"),
        (("det.py", checkpoint, table, *frames, *budget), r"RetinaNet without"),
    ):
        result = run("analysis/stitch_stream", *arguments)
        assert result.status == 1 and re.search(message, result.err), result.err
        assert result.err.count("\n") == 1


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
