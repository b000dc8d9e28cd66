"""The configs of VanillaNet and ReduceNet: what fades, and when."""

import pytest
import torch
from mmengine.registry import MODELS
from resolved import CONFIGS, resolve, use_scope
from shrink import inner_model

LEAVES = sorted(
    path
    for family in ("vanillanet", "reducenet")
    for path in [*CONFIGS.glob(f"{family}/*.py"), *CONFIGS.glob(f"demo/{family}-*.py")]
)


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.stem)
def test_fades_from_scratch_and_only_then(path):
    cfg = resolve(path)
    hooks = [h for h in cfg.get("custom_hooks", []) if h.type == "mmrev.FadeHook"]
    weights = inner_model(cfg.model).backbone.get("init_cfg")
    assert len(hooks) == (weights is None)
    for hook in hooks:
        by_epoch = hook.get("by_epoch", True)
        length = cfg.train_cfg["max_epochs" if by_epoch else "max_iters"]
        assert 0 < hook.end < length


@pytest.mark.parametrize(
    "path", [p for p in LEAVES if "demo" not in p.stem], ids=lambda path: path.stem
)
def test_settings_of_the_name(path):
    cfg = resolve(path)
    model = inner_model(cfg.model)
    size = path.stem.partition("_")[0].split("-")[1]
    assert model.backbone.arch == size
    assert model.backbone.get("act_num", 3) == (4 if "act4" in path.stem else 3)
    if "in1k" in path.stem:
        assert model.backbone.out_indices == (3,)
        assert cfg.optim_wrapper.optimizer.type == "Lamb"
        assert cfg.train_cfg.max_epochs == 300
        assert [hook.type for hook in cfg.custom_hooks] == ["EMAHook", "mmrev.FadeHook"]
        return
    if "_linear_" in path.stem:  # whose backbone counts no statistics
        assert cfg.track == "frozen"
        return
    # Two images on a GPU are no batch for a batch norm.
    assert cfg.sync_bn == "torch"
    if "dino" in path.stem:
        assert model.backbone.out_indices == (1, 2, 3)
        decay = 0.775 if "vanillanet" in path.stem else 0.9
        assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)


@pytest.mark.parametrize("size", ["18", "34", "50"])
def test_dense_reducenets_start_from_their_own_pretraining(size):
    pretraining = f"reducenet-{size}_8xb128_in1k"
    assert (CONFIGS / f"reducenet/{pretraining}.py").is_file()
    for path in CONFIGS.glob(f"reducenet/reducenet-{size}_*8xb2*.py"):
        checkpoint = inner_model(resolve(path).model).backbone.init_cfg
        expected = f"work_dirs/{pretraining}/epoch_300.pth"
        assert checkpoint == dict(type="Pretrained", checkpoint=expected)


# lr, weight decay, layer decay, mixup: huawei-noah/VanillaNet @6aaf731, README.md; it
# gives none for 11 to 13.
VANILLANETS = {
    "5": (3.5e-3, 0.35, 1.0, 0.1),
    "6": (4.8e-3, 0.32, 0.8, 0.15),
    "7": (4.7e-3, 0.35, 0.8, 0.4),
    "8": (3.5e-3, 0.3, 1.0, 0.4),
    "9": (3.5e-3, 0.3, 1.0, 0.4),
    **dict.fromkeys(("10", "11", "12", "13"), (3.5e-3, 0.25, 1.0, 0.4)),
}


@pytest.mark.parametrize("size", VANILLANETS)
def test_vanillanet_has_the_published_recipe(size):
    lr, weight_decay, decay, mixup = VANILLANETS[size]
    cfg = resolve(f"vanillanet/vanillanet-{size}_8xb128_in1k")
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (lr, weight_decay)
    assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert [mix.alpha for mix in cfg.model.train_cfg.augments] == [mixup, 1.0]
    average, fade = cfg.custom_hooks
    assert (average.momentum, fade.end, fade.get("curve", "linear")) == (
        pytest.approx(1 - 0.99996),
        100,
        "linear",
    )
    assert cfg.model.neck.dropout_rate == 0.05
    loss = cfg.model.head.loss
    assert (loss.label_smooth_val, loss.use_sigmoid) == (0.1, True)
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train["RandAugment"].magnitude_level == 7
    assert train["RandomErasing"].erase_prob == 0.25
    test = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    assert test["ResizeEdge"].scale == 256
    linear, cosine = cfg.param_scheduler
    assert (linear.end, cosine.begin, cosine.end) == (5, 5, 300)
    assert cosine.eta_min == 1e-6


def test_a_vanillanet_becomes_what_the_reference_trains():
    """107.7 M parameters of VanillaNet-13 in training form, classifiers included."""
    use_scope("mmpretrain")
    with torch.device("meta"):
        model = MODELS.build(resolve("vanillanet/vanillanet-13_8xb128_in1k").model)
    assert sum(p.numel() for p in model.parameters()) == 107_702_240
