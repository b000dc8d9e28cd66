"""NFNet's configs hold the published recipe, and its pieces fit together."""

from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.model import MomentumAnnealingEMA
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, TRANSFORMS
from mmengine.runner import Runner
from resolved import CONFIGS, resolve, use_scope
from shrink import shrink

from mmrev.engine import AGCOptimWrapper, SAMOptimWrapper

# But for those whose backbone is frozen, behind a mask, or learns from another.
LEAVES = [
    path
    for path in sorted(CONFIGS.glob("nfnet/*.py"))
    if not {"fd", "linear", "simmim"} & set(path.stem.split("_"))
]


@pytest.fixture(autouse=True)
def scope():
    use_scope("mmpretrain")


# px of training and test, dropout, RandAugment's magnitude, GPUs x images.
RECIPES = {
    "f0_32xb128": (192, 256, 0.2, 5),
    "f0_sam_32xb128": (192, 256, 0.2, 5),
    "f1_32xb128": (224, 320, 0.3, 10),
    "f2_64xb64": (256, 352, 0.4, 10),
    "f3_64xb64": (320, 416, 0.4, 15),
    "f4_128xb32": (384, 512, 0.5, 15),
    "f5_128xb32": (416, 544, 0.5, 15),
    "f6_sam_128xb32": (448, 576, 0.5, 15),
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_is_that_of_the_reference(name):
    """google-deepmind/deepmind-research @f5de0ed, nfnets/experiment_nfnets.py."""
    train_px, test_px, dropout, magnitude = RECIPES[name]
    cfg = resolve(f"nfnet/nfnet-{name}_in1k")
    wrapper = cfg.optim_wrapper
    kind, rho = ("SAM", 0.05) if "sam" in name else ("AGC", None)
    assert (wrapper.type, wrapper.get("rho")) == (
        f"mmrev.{kind}BFloat16OptimWrapper",
        rho,
    )
    assert (wrapper.clip_factor, wrapper.eps) == (0.01, 1e-3)
    assert wrapper.optimizer == dict(
        type="SGD",
        lr=0.1 * cfg.auto_scale_lr.base_batch_size / 256,
        momentum=0.9,
        nesterov=True,
        weight_decay=2e-5,
    )
    assert cfg.auto_scale_lr.base_batch_size == 4096
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end, cosine.T_max) == (5, 5, 360, 355)
    assert cfg.train_cfg.max_epochs == 360
    assert cfg.model.backbone.drop_path_rate == 0.25
    assert cfg.model.backbone.get("flavour", "deepmind") == "deepmind"
    assert cfg.model.backbone.init_cfg is None
    assert cfg.model.neck.dropout_rate == dropout
    assert cfg.model.head.loss.label_smooth_val == 0.1
    assert pipelines(cfg) == (train_px, magnitude, test_px)


def pipelines(cfg):
    """Size and magnitude of the training, size of the test."""
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train["RandAugment"].num_policies == 4
    assert "RandomErasing" not in train
    test = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    crop = test["CenterCrop"].crop_size
    assert test["Resize"].scale == (crop + 32, crop + 32)
    return (
        train["RandomResizedCrop"].scale,
        train["RandAugment"].magnitude_level,
        crop,
    )


@pytest.mark.parametrize("repeats", ["", "-repeat4"])
def test_fine_tuning_of_the_scaling_paper(repeats):
    """arXiv 2310.16764: 50 epochs, SAM, stochastic depth, 384 px, tested at 480."""
    cfg = resolve(f"nfnet/nfnet-f7plus_128xb16-50e{repeats}_in1k-384px")
    assert cfg.train_cfg.max_epochs == 50
    assert cfg.optim_wrapper.type == "mmrev.SAMBFloat16OptimWrapper"
    assert cfg.model.backbone.arch == "F7+"
    assert cfg.model.backbone.init_cfg.checkpoint.endswith("nfnet_f7plus.pth")
    assert cfg.model.backbone.drop_path_rate == 0.25
    assert pipelines(cfg) == (384, 15, 480)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.end, cosine.begin, cosine.end, cosine.T_max) == (5, 5, 50, 45)
    loader = dict(cfg.train_dataloader, dataset=range(10), num_workers=0)
    batches = Runner.build_dataloader(loader).batch_sampler
    counts = Counter(image for batch in batches for image in batch)
    assert counts == dict.fromkeys(range(10), 4 if repeats else 1)


def test_augmentations_are_as_strong_as_the_references():
    """nfnets/autoaugment.py, level_to_arg: what each does at a level of 15."""
    level = 15 / 10
    pipeline = resolve("nfnet/nfnet-f3_64xb64_in1k").train_dataloader.dataset.pipeline
    augment = TRANSFORMS.build(pipeline[3])
    ops = {type(op).__name__: op for op in augment.transforms}
    assert len(augment.transforms) == 16
    assert {op.prob for op in augment.transforms} == {1.0}
    expected = dict(
        Rotate=level * 30,
        Posterize=level * 4,  # bits that are kept
        Solarize=level * 256,  # from which on pixels are turned
        SolarizeAdd=level * 110,
        Shear=level * 0.3,
        Cutout=2 * level * 40,  # there half a side
    )
    for name, magnitude in expected.items():
        assert ops[name].random_magnitude() == pytest.approx(magnitude), name
    for name in ("ColorTransform", "Contrast", "Brightness", "Sharpness"):
        signed = ops[name].random_negative(ops[name].random_magnitude())
        assert 1 + signed == pytest.approx(level * 1.8 + 0.1), name
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    seen = {augment(dict(img=image))["img"].tobytes() for _ in range(20)}
    assert len(seen) > 15


def test_average_warms_up_as_in_the_reference():
    """tf1_ema: the decay is min(.99999, (1 + step) / (10 + step))."""
    (hook,) = resolve("nfnet/nfnet-f0_32xb128_in1k").custom_hooks
    assert hook.pop("type") == "EMAHook"
    assert hook.pop("ema_type") == "MomentumAnnealingEMA"
    hook.pop("priority")
    average = MomentumAnnealingEMA(torch.nn.Linear(1, 1), **hook)
    for step in (1, 10, 1000, 10_000_000):
        value = torch.zeros(())
        # mmengine copies the weights at its first step, 0.
        average.steps.fill_(step + 1)
        average.avg_func(value, torch.ones(()), average.steps)
        decay = min(0.99999, (1 + step) / (10 + step))
        assert value.item() == pytest.approx(1 - decay, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nfnet/nfnet-f0_32xb128_in1k", AGCOptimWrapper),
        ("nfnet/nfnet-f0_sam_32xb128_in1k", SAMOptimWrapper),
    ],
)
def test_groups_of_the_recipe(name, kind):
    """Kernels and the classifier decay; gains, biases and skip gains do not."""
    cfg = shrink(resolve(name))
    model = MODELS.build(
        dict(cfg.model, data_preprocessor=cfg.get("data_preprocessor"))
    )
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper) is kind
    decays = {
        id(p): group["weight_decay"]
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }
    for parameter_name, p in model.named_parameters():
        kernel = parameter_name.endswith(".weight")
        assert decays[id(p)] == (2e-5 if kernel else 0), parameter_name
    with wrapper.optim_context(model):
        pass
    excluded = [n for n, p in model.named_parameters() if id(p) in wrapper._excluded]
    assert excluded == ["head.fc.weight"]


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_the_stem_learns_at_a_quarter_of_the_rate(path):
    """In dense configs, whatever the depth."""
    cfg = resolve(path)
    use_scope(cfg.default_scope)
    dense = "in1k" not in path.stem
    backbone = cfg.model.backbone
    model = path.stem.split("_")[0].removesuffix("-simmim")
    name, *mode = model.removeprefix("nfnet-").split("-")
    small = name in ("f0", "f1", "f2")
    usual = "store" if small and not dense else "recompute"
    assert backbone.memory == ("reverse" if "reverse" in mode else usual)
    assert backbone.arch == name.upper().replace("PLUS", "+")
    if dense:
        with torch.device("meta"):
            layers = sum(MODELS.build(backbone).depths) + 2
        rate = cfg.optim_wrapper.paramwise_cfg.decay_rate
        assert 0.2 < rate ** (layers - 1) < 0.3
