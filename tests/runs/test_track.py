"""``track``: one key for what a training does to the backbone's weights."""

import copy

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from resolved import CONFIGS, resolve

from mmrev.errors import UserError
from mmrev.leaderboard.tracks import track_of
from mmrev.runs.config import load_config
from mmrev.runs.model import as_used
from mmrev.runs.track import apply_track

PRETRAINED = {"type": "Pretrained", "checkpoint": "a.pth"}
START = {"init_cfg": PRETRAINED}
REVCOL = {"type": "mmrev.RevCol", "arch": "tiny"}
RESNET = {"type": "mmdet.ResNet", "depth": 18}
TIMM = {"type": "mmpretrain.TIMMBackbone", "model_name": "resnet18"}
STITCHED = {"type": "mmrev.StitchedBackbone", "routes": {"stages": (0,)}}
DEMO = "configs/demo/revcol-demo_mask2former_scenes.py"
SUPERVISED = "revcol/revcol-t_dino-4scale-supervised_8xb2-12e_coco"


def config(backbone, track=None, around=(), **others):
    model = {"type": "Detector", "backbone": dict(backbone)}
    for key in around:
        model = {"type": "Wrapper", key: model}
    settings = {"model": model, "default_scope": "mmdet", "load_from": None, **others}
    if track:
        settings["track"] = track
    return Config(settings)


def applied(*args, **settings):
    cfg = config(*args, **settings)
    apply_track(cfg)
    return cfg


@pytest.mark.parametrize(
    "backbone",
    [
        {**REVCOL, **START},
        {**RESNET, "init_cfg": [{"type": "Kaiming", "layer": "Conv2d"}, PRETRAINED]},
        {**TIMM, "pretrained": True},
        {**TIMM, "checkpoint_path": "a.pth"},
        {**STITCHED, "anchors": [{**RESNET, **START}, {**REVCOL, **START}]},
    ],
    ids=lambda backbone: "-".join(map(str, backbone)),
)
@pytest.mark.parametrize("around", [(), ("model",), ("detector", "model")])
def test_one_key_for_every_backbone(backbone, around):
    assert track_of(config(backbone, around=around)) == "tuned"
    frozen = applied(backbone, "frozen", around)
    assert track_of(frozen) == "frozen"
    inner = frozen.model
    for key in reversed(around):
        inner = inner[key]
    # All else stays where --cfg-options finds it.
    rest = {**inner.backbone, "type": inner.backbone.of}
    del rest["of"]
    assert rest == backbone
    again = copy.deepcopy(frozen)
    apply_track(again)
    assert again.model == frozen.model
    frozen.track = "tuned"
    apply_track(frozen)
    assert frozen.model == config(backbone, around=around).model
    scratch = applied(backbone, "scratch", around)
    assert track_of(scratch) == "scratch"
    assert "a.pth" not in str(scratch.model)


@pytest.mark.parametrize(
    ("cfg", "track"),
    [
        (config(REVCOL), "scratch"),
        (config(REVCOL, load_from="a.pth"), "tuned"),
        (config({**STITCHED, "anchors": [{**RESNET, **START}, REVCOL]}), "scratch"),
        (config({"type": "mmrev.FrozenBackbone", "of": "mmrev.RevCol"}), "frozen"),
        (Config({"model": {"type": "Lone"}}), None),
    ],
)
def test_without_the_key_the_config_tells(cfg, track):
    before = copy.deepcopy(cfg.model)
    apply_track(cfg)
    assert track_of(cfg) == track
    assert cfg.model == before


def test_from_scratch_nothing_is_loaded_first():
    assert applied(REVCOL, "scratch", load_from="a.pth").load_from is None
    kept = applied(REVCOL, "scratch", load_from="a.pth", resume=True)
    assert kept.load_from == "a.pth"


def test_whole_models_that_are_pretrained():
    for start in ({"pretrained": "open-mmlab://resnet18"}, START):
        cfg = config(RESNET, "frozen")
        cfg.model.update(start)
        apply_track(cfg)
        assert track_of(cfg) == "frozen"
        cfg.track = "scratch"
        apply_track(cfg)
        assert track_of(cfg) == "scratch"


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (config(REVCOL, "frosen"), "track='frosen': did you mean 'frozen'?"),
        (config(REVCOL, True), "track=True: expected one of: frozen, scratch, tuned."),
        (
            Config({"model": {"type": "Lone"}, "track": "scratch"}),
            "track='scratch': expected a model with a backbone, got Lone without",
        ),
        (
            config(REVCOL, "frozen"),
            "track='frozen': mmrev.RevCol, the backbone of .* no weights; give it .* "
            "load_from, or take track=scratch",
        ),
        (config(REVCOL, "tuned"), "track='tuned': mmrev.RevCol, .* from no weights"),
        (
            config({"type": "mmrev.FrozenBackbone", "of": "mmdet.ResNet"}, "frozen"),
            "track='frozen': mmdet.ResNet, the backbone of",
        ),
        (
            config(
                {**RESNET, **START, "frozen_stages": 1, "norm_eval": True}, "scratch"
            ),
            r"track='scratch': random weights would stay .* by model.backbone.frozen_st"
            r"ages=1, model.backbone.norm_eval=True; add --cfg-options "
            r"model.backbone.frozen_stages=-1 model.backbone.norm_eval=False",
        ),
    ],
)
def test_tracks_that_a_config_cannot_take(cfg, message):
    with pytest.raises(UserError, match=message):
        apply_track(cfg)


def test_a_frozen_backbone_takes_no_losses_of_its_own():
    cfg = resolve(SUPERVISED)
    cfg.track = "frozen"
    with pytest.raises(UserError, match=r"IntermediateSupervision adds .*tuned"):
        apply_track(cfg)


def test_blocks_of_a_frozen_backbone_stay_uncoupled():
    cfg = resolve("swin_v2/swinv2-b-in22k-reverse_dino-4scale_8xb2-12e_coco")
    kinds = [hook.type for hook in cfg.custom_hooks]
    cfg.track = "frozen"
    apply_track(cfg)
    left = [hook.type for hook in cfg.custom_hooks]
    assert left == [kind for kind in kinds if kind != "mmrev.CouplingHook"] != kinds


def test_a_config_is_read_in_its_track(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    key = "model.backbone.init_cfg.checkpoint"
    cfg = load_config(DEMO, {"track": "frozen", key: "b.pth"})
    assert cfg.model.backbone.init_cfg.checkpoint == "b.pth"
    init_default_scope(cfg.default_scope)
    assert type(MODELS.build(cfg.model.backbone)).__name__ == "FrozenBackbone"
    cfg.dump(tmp_path / "dumped.py")
    # As a run leaves it, and as its options are repeated.
    again = load_config(tmp_path / "dumped.py", {key: "c.pth"})
    assert again.model.backbone.init_cfg.checkpoint == "c.pth"
    assert track_of(again) == "frozen"
    assert as_used(again).model.backbone.type == "mmrev.RevCol"
    with pytest.raises(UserError, match="no 'trak'; did you mean 'track'"):
        load_config(DEMO, {"trak": "frozen"})
