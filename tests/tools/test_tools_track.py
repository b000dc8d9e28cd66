"""``track`` through the tools: trained, resumed, tested, recorded, planned."""

import re

import pytest
import torch

from mmrev.leaderboard.store import load_records

SHORT = ("train_cfg.max_iters=2", "default_hooks.checkpoint.interval=2")


@pytest.fixture(scope="module")
def frozen(train, tmp_path_factory):
    """Work dir and settings of a segmentor that starts from the trained detector."""
    folder = tmp_path_factory.mktemp("frozen")
    start = "work_dirs/det/epoch_2.pth"
    weights = {"type": "Pretrained", "checkpoint": start}
    # Of the detector's levels the last three have norms; the head reads the first.
    settings = (f"model.backbone.init_cfg={weights}", "track=frozen", *SHORT)
    settings += (
        "model.backbone.out_indices=[1,2,3]",
        "model.decode_head.in_channels=16",
    )
    train("seg.py", "--work-dir", folder, "--cfg-options", *settings)
    return folder, settings


def test_the_backbone_stays_and_the_record_says_so(run, frozen):
    folder, settings = frozen
    checkpoint = folder / "iter_2.pth"
    then = torch.load("work_dirs/det/epoch_2.pth", weights_only=False)["state_dict"]
    found = torch.load(checkpoint, weights_only=False)
    own = {k: v for k, v in found["state_dict"].items() if k.startswith("backbone.")}
    assert own and all(torch.equal(then[key], value) for key, value in own.items())
    assert not any(key.startswith("backbone.model.") for key in own)
    # It is tested as any other, with the track that its training had.
    result = run(
        *("test", "seg.py", checkpoint, "--work-dir", folder),
        *("--cfg-options", *settings[2:], "track=tuned", settings[0]),
    )
    assert result.status == 0, result.err
    (record,) = load_records([folder / "records"])[0].values()
    assert record.training.track == "frozen"
    assert record.model.backbone == "RevCol"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["track=frosen"], "track='frosen': did you mean 'frozen'?"),
        (["tracks=frozen"], "no 'tracks'; did you mean 'track'?"),
        (["track=frozen"], "track='frozen': mmrev.RevCol, the backbone of det.py, st"),
        (["track=tuned"], "track='tuned': mmrev.RevCol, the backbone of det.py, star"),
        (
            ["track=scratch", "model.backbone.frozen_stages=2"],
            "would stay as they are by model.backbone.frozen_stages=2; add",
        ),
        (
            ["model.backbone.type=mmrev.FrozenBackbone"],
            "FrozenBackbone (in RetinaNet): the config must set 'of'",
        ),
        (
            [
                *("model.backbone.type=mmrev.FrozenBackbone", "track=None"),
                *("model.backbone.of=mmrev.RevCol", "model.backbone.arhc=tiny"),
            ],
            "RevCol (in RetinaNet): unknown argument 'arhc'; did you mean 'arch'?",
        ),
        (
            [
                "model.backbone.type=mmrev.FrozenBackbone",
                "model.backbone.of=mmrev.RevKol",
            ],
            "unknown model type 'mmrev.RevKol'; did you mean 'mmrev.RevCol'?",
        ),
    ],
)
def test_mistakes_are_one_line(run, settings, message):
    result = run("train", "det.py", "--cfg-options", *settings)
    assert result.status == 1
    (line,) = [one for one in result.err.splitlines() if "error:" in one]
    assert message in line
    assert "Traceback" not in result.err


def test_a_frozen_run_is_not_resumed_as_another(run, frozen):
    folder, settings = frozen
    others = [one for one in settings if not one.startswith("track")]
    result = run(
        *("train", "seg.py", "--work-dir", folder, "--resume"),
        *("--cfg-options", *others, "track=tuned"),
    )
    assert result.status == 1
    assert re.search(
        r"iter_2.pth is of a training with track=frozen, the config's is track=tuned; "
        r"resume with --cfg-options track=frozen, or .* load_from=",
        result.err,
    )
