"""A refused argument is told by its place in the config; a bug stays one."""

from importlib import import_module

import huggingface_hub
import pytest
import timm
import torch
from mmdet.models.layers.transformer import deformable_detr_layers
from mmengine.config import Config
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import CheckpointLoader, EpochBasedTrainLoop
from safetensors.torch import save_file

from mmrev.errors import UserError
from mmrev.runs.overrides import override
from mmrev.runs.refusals import named_refusals

# Of an encoder of deformable attention, as small as it gets.
LAYER = {
    "self_attn_cfg": {"embed_dims": 8, "num_levels": 1, "num_heads": 1},
    "ffn_cfg": {"embed_dims": 8, "feedforward_channels": 8},
}


class Plain:
    def __init__(self, width: int, depth: int = 1):
        pass


class Handing(Plain):
    def __init__(self, rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)


class Keeping(Plain):
    """Takes no more than its own, though its base would."""

    def __init__(self, rate: float = 0.0):
        super().__init__(width=1)


class Building:
    """Hands on what it does not know, as mmcv's RandomResize does."""

    def __init__(self, ratio: float, **kwargs):
        Plain(width=1, **kwargs)


class Bare:
    pass


class Outer:
    def __init__(self, part: dict):
        MODELS.build(part)


def refused(part: dict) -> str:
    # A variable of the config's file stands before what is made of it.
    cfg = Config({"part": part, "model": {"type": Outer, "part": part}})
    with pytest.raises(UserError) as caught, named_refusals(cfg):
        MODELS.build(cfg.model)
    return str(caught.value)


@pytest.mark.parametrize(
    ("part", "line"),
    [
        (
            {"type": Plain, "width": 1, "deptt": 2},
            "Plain (in Outer): unknown argument 'deptt'; did you mean 'depth'?",
        ),
        (
            {"type": Handing, "width": 1, "rat": 2},
            "Handing (in Outer): unknown argument 'rat'; did you mean 'rate'?",
        ),
        (
            {"type": Handing, "width": 1, "deptt": 2},
            "Handing (in Outer): unknown argument 'deptt'; did you mean 'depth'?",
        ),
        (
            {"type": Keeping, "width": 1},
            "Keeping (in Outer): unknown argument 'width'; expected one of: rate.",
        ),
        (
            {"type": Building, "ratio": 1, "deptt": 2},
            "Building (in Outer): unknown argument 'deptt'; expected one of: ratio.",
        ),
        (
            {"type": Bare, "width": 1},
            "Bare (in Outer): unknown argument 'width'; it takes none.",
        ),
        ({"type": Handing}, "Handing (in Outer): the config must set 'width'."),
        ({"width": 1}, "model.part of the config has no 'type' (it has: width)."),
        (
            {"type": "EvenlyPooled"},
            "unknown model type 'EvenlyPooled'; ",
        ),
    ],
)
def test_one_line(part, line):
    assert refused(part).startswith(line)


def test_a_loop_without_a_type():
    cfg = Config({"train_cfg": {"max_epoch": 2}})
    line = "EpochBasedTrainLoop: unknown argument 'max_epoch'; .* 'max_epochs'"
    with pytest.raises(UserError, match=line), named_refusals(cfg):
        EpochBasedTrainLoop(runner=None, dataloader=None, **cfg.train_cfg)


@pytest.mark.parametrize(
    "bug",
    [
        # Not in the config: the caller's mistake.
        TypeError("Plain.__init__() got an unexpected keyword argument 'deptt'"),
        TypeError("f() got an unexpected keyword argument 'width'"),
        TypeError("Plain.__init__() missing 1 required positional argument: 'width'"),
        KeyError("width"),
        KeyError(),
    ],
)
def test_a_bug_stays_one(bug):
    cfg = Config({"model": {"type": Plain, "width": 1}})
    with pytest.raises(type(bug)), named_refusals(cfg):
        raise bug


def test_what_a_builder_takes_out_before_is_not_refused():
    cfg = Config({"custom_hooks": [{"type": "EmptyCacheHook", "priority": 49}]})
    with named_refusals(cfg):
        hook = dict(cfg.custom_hooks[0])
        del hook["priority"]
        HOOKS.build(hook)


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(deformable_detr_layers, "checkpoint_wrapper", None)
    cfg = Config({"model": {"type": "Detector", "encoder": {"num_cp": 1}}})
    encoder = deformable_detr_layers.DeformableDetrTransformerEncoder
    line = r"model\.encoder\.num_cp=1: If you .* pip install fairscale\.$"
    with pytest.raises(UserError, match=line), named_refusals(cfg):
        encoder(num_layers=1, layer_cfg=LAYER, num_cp=1)
    with pytest.raises(UserError, match="'nowhere'"), named_refusals(cfg):
        import_module("nowhere")


def test_weights_of_timm_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = {"type": "mmpretrain.TIMMBackbone", "model_name": "test_resnet"}
    cfg = Config({"model": {"backbone": {**backbone, "pretrained": True}}})
    with pytest.raises(UserError) as caught, named_refusals(cfg):
        MODELS.build(cfg.model.backbone)
    assert str(caught.value) == (
        "model.backbone: the weights of test_resnet cannot be downloaded from "
        "https://huggingface.co/timm/test_resnet.r160_in1k. Get their "
        "model.safetensors elsewhere, and add --cfg-options "
        "\"model.backbone.pretrained_cfg_overlay={'file': 'PATH'}\"."
    )
    # What the line says does it.
    model = timm.create_model("test_resnet")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    file = {"file": str(tmp_path / "model.safetensors")}
    override(cfg, {"model.backbone.pretrained_cfg_overlay": file})
    loaded = MODELS.build(cfg.model.backbone).timm_model
    assert torch.equal(loaded.conv1[0].weight, model.conv1[0].weight)


def test_weights_of_an_unknown_name():
    init = {"type": "Pretrained", "checkpoint": "torchvision://resnet5"}
    cfg = Config({"model": {"backbone": {"init_cfg": init}}})
    line = "checkpoint: there are no weights of the name torchvision://resnet5"
    with pytest.raises(UserError, match=line), named_refusals(cfg):
        CheckpointLoader.load_checkpoint(init["checkpoint"])
