"""NFNet's configs hold the published recipe, and its pieces fit together."""

import pytest
import torch
from mmengine.model import MomentumAnnealingEMA
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from resolved import CONFIGS, resolve, use_scope
from shrink import shrink

from mmrev.engine import AGCOptimWrapper, SAMOptimWrapper

LEAVES = sorted(CONFIGS.glob("nfnet/*.py"))


@pytest.fixture(autouse=True)
def scope():
    use_scope("mmpretrain")


def test_recipe_is_that_of_the_reference():
    """google-deepmind/deepmind-research @f5de0ed, nfnets/experiment_nfnets.py."""
    cfg = resolve("nfnet/nfnet-f0_32xb128_in1k")
    wrapper = cfg.optim_wrapper
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
    assert cfg.model.neck.dropout_rate == 0.2
    assert cfg.model.head.loss.label_smooth_val == 0.1
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train["RandomResizedCrop"].scale == 192
    assert train["RandAugment"].num_policies == 4
    assert train["RandAugment"].magnitude_level == 5
    assert "RandomErasing" not in train
    test = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    assert test["CenterCrop"].crop_size == 256
    assert test["ResizeEdge"].scale == 256 + 32


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
    name, *mode = path.stem.split("_")[0].removeprefix("nfnet-").split("-")
    assert backbone.memory == (*mode, "recompute" if dense else "store")[0]
    assert backbone.arch == name.upper().replace("PLUS", "+")
    if dense:
        with torch.device("meta"):
            layers = sum(MODELS.build(backbone).depths) + 2
        rate = cfg.optim_wrapper.paramwise_cfg.decay_rate
        assert 0.2 < rate ** (layers - 1) < 0.3
