"""The ready sets of stitched backbones, at full size."""

from collections.abc import Iterable
from functools import cache

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from resolved import CONFIGS, resolve, use_scope
from shrink import on_meta
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmrev.models.stitching import StitchedBackbone
from mmrev.operating_points.costs import stitch_costs

README = CONFIGS / "stitched/README.md"
JOINT = sorted(CONFIGS.glob("stitched/*_in1k.py"))
LEAVES = sorted(
    path
    for head in ("dino", "mask2former")
    for path in CONFIGS.glob(f"stitched/*_{head}*")
)

# Stitches; 41, 10, 8 and 71 are SN-Net's (arXiv 2302.06586).
SETS = {
    "swin-t-s-b": 41,
    "swinv2-t-s-b": 41,
    "resnet-18-50": 10,
    "resnet-18-swin-t": 8,
    "deit-ti-s-b": 71,
    "revcol-t-s-b": 25,
    "efficientnet-lite-0-1-2": 23,
}
EMBEDDINGS = ("pos_embed", "cls_token", "relative_position_bias_table")


def base_of(name: str) -> Config:
    return resolve(f"_base_/backbones/{name}")


@cache
def full_size(name: str) -> StitchedBackbone:
    with on_meta():
        return MODELS.build(base_of(f"stitched-{name}").backbone).eval()


def test_every_set_is_here():
    files = CONFIGS.glob("_base_/backbones/stitched-*.py")
    names = {path.stem.removeprefix("stitched-") for path in files}
    assert {name for name in names if "demo" not in name} == set(SETS)
    assert len(LEAVES) == 2 * len(SETS)


def check_levels(model: StitchedBackbone, stitches: Iterable[int]) -> None:
    height, width = 483, 651
    expected = [
        (1, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(model.channels, (4, 8, 16, 32), strict=True)
    ]
    image = torch.empty(1, 3, height, width, device="meta")
    for stitch in stitches:
        model.set_stitch(stitch)
        assert [tuple(level.shape) for level in model(image)] == expected


@torch.no_grad()
@pytest.mark.parametrize("name", SETS)
def test_stitches_of_every_stage_and_pair(name):
    """The last route of each; its anchors alone are whole backbones of a toolbox."""
    model = full_size(name)
    assert len(model.routes) == SETS[name]
    assert model.channels == base_of(f"stitched-{name}").channels
    last = {
        (crossing.stage, crossing.front): stitch
        for stitch in model.stitch_ids
        for crossing in model.routes[stitch].crossings
    }
    assert len(last) == len(model.stitches)
    check_levels(model, last.values())


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", SETS)
def test_every_stitch(name):
    """Its levels, and the table of the README, as ``tools/stitches.py`` counts."""
    model = full_size(name)
    check_levels(model, model.stitch_ids)
    costs = stitch_costs(model, repeats=0)
    whole = sum(p.numel() for p in model.parameters())
    params = [cost.params / 1e6 for cost in costs]
    flops = [cost.flops / 1e9 for cost in costs]
    row = (
        f"| stitched-{name} | {len(costs)} | {whole:,} "
        f"| {min(params):.2f}-{max(params):.2f} M | {min(flops):.2f}-{max(flops):.2f} |"
    )
    assert row in README.read_text()


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("swinv2-t-s-b", ["swinv2-t", "swinv2-s", "swinv2-b-in22k"]),
        ("revcol-t-s-b", ["revcol-t", "revcol-s", "revcol-b"]),
    ],
)
def test_anchors_are_the_suites_own_backbones(name, members):
    anchors = base_of(f"stitched-{name}").backbone.anchors
    for anchor, member in zip(anchors, members, strict=True):
        anchor.pop("drop_path_rate")
        assert anchor == base_of(member).backbone


def check_rates(model: nn.Module, cfg: Config) -> None:
    norms = {
        f"{name}."
        for name, module in model.named_modules()
        if "Norm" in type(module).__name__
    }
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rate = cfg.optim_wrapper.optimizer.lr
    names = {id(p): name for name, p in model.named_parameters()}
    found = set()
    for group in optimizer.param_groups:
        for name in (names[id(p)] for p in group["params"]):
            part = ".".join(name.split(".")[:2])
            found.add(part)
            expected = rate / 10 if part == "backbone.anchors" else rate
            assert group["lr"] == pytest.approx(expected), name
            owner, _, kind = name.rpartition(".")
            if f"{owner}." in norms or kind in EMBEDDINGS:
                assert group["weight_decay"] == 0, name
    assert {"backbone.anchors", "backbone.stitches"} <= found


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_pixels_rates_hooks_and_loop(path):
    cfg = resolve(path)
    mean = cfg.model.data_preprocessor.mean
    assert (mean == [127.5] * 3) == ("efficientnet" in path.stem)
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks == ["mmrev.StitchFitHook", "mmrev.StitchSamplerHook"]
    assert cfg.test_cfg.type == "mmrev.StitchTestLoop"
    model = nn.Module()
    model.backbone = full_size(path.stem.removeprefix("stitched-").partition("_")[0])
    check_rates(model, cfg)


@pytest.mark.parametrize(
    "path",
    [path for path in LEAVES if "resnet-18-swin-t" in path.stem],
    ids=lambda path: path.stem,
)
def test_rates_of_heads(path):
    cfg = resolve(path)
    use_scope(cfg.default_scope)
    with on_meta():
        model = MODELS.build(cfg.model)
    check_rates(model, cfg)


@pytest.mark.parametrize("name", ["resnet-18-50", "resnet-18-swin-t"])
def test_batch_norms_stay_as_pretrained(name):
    model = full_size(name)
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    model.train()
    assert norms and not any(norm.training for norm in norms)
    assert not any(p.requires_grad for norm in norms for p in norm.parameters())
    model.eval()


# Of SN-Net @c2dcf30: optimizer, its rate at batch 1024, that of the anchors, epochs.
RECIPES = {
    "deit-ti-s-b": ("AdamW", 1e-4, 1e-4, 50),
    "swin-t-s-b": ("AdamW", 1e-3, 1e-4, 50),
    "resnet-18-50": ("SGD", 0.05, 0.05, 30),
    "resnet-18-swin-t": ("SGD", 0.05, 0.05, 30),
}


@pytest.mark.parametrize("path", JOINT, ids=lambda path: path.stem)
def test_joint_training_on_imagenet_is_that_of_the_reference(path):
    name = path.stem.removeprefix("stitched-").partition("_")[0]
    kind, rate, of_anchors, epochs = RECIPES[name]
    cfg = resolve(path)
    assert cfg.model.type == "mmrev.ClassDistillation"
    assert cfg.model.get("alpha", 0.5) == 0.5
    assert cfg.model.teacher.model_name == "regnety_160"
    assert cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer.type == kind
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks[:2] == ["mmrev.StitchFitHook", "mmrev.StitchSamplerHook"]
    assert (hooks[2:] == ["EMAHook"]) == (name == "deit-ti-s-b")
    assert cfg.test_cfg.type == "mmrev.StitchTestLoop"
    mixes = cfg.model.model.train_cfg is not None
    assert mixes == (kind == "AdamW")
    model = nn.Module()
    with on_meta():
        model.backbone = MODELS.build(cfg.model.model.backbone)
    assert model.backbone.channels[-1] == cfg.model.model.head.in_channels
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    rates = {
        id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]
    }
    for part, expected in (("anchors", of_anchors), ("stitches", rate)):
        parameters = getattr(model.backbone, part).parameters()
        (found,) = {rates[id(p)] for p in parameters if p.requires_grad}
        assert found == pytest.approx(expected)
