"""Predicted peaks against measured ones, for every family under both heads."""

import copy

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from resolved import CONFIGS, resolve, use_scope
from shrink import inner_model, shrink

from mmrev.datasets.batches import seeded
from mmrev.leaderboard.tracks import FROZEN
from mmrev.measure.memory import peak_memory
from mmrev.models.head_memory import recompute_head
from mmrev.models.layers.keeping import forget_kept
from mmrev.runs import trial as trials
from mmrev.runs.plan import memory_keys
from mmrev.runs.trial import Trial
from mmrev.runs.typical import training_batch

LEAVES = {
    "revcol": "revcol/revcol-t",
    "swinv2": "swin_v2/swinv2-t",
    "nfnet": "nfnet/nfnet-f0",
    "vanillanet": "vanillanet/vanillanet-5",
    "reducenet": "reducenet/reducenet-18",
    "stitched": "stitched/stitched-revcol-t-s-b",
}
HEADS = {
    "dino": "dino-4scale_8xb2-12e_coco",
    "mask2former": "mask2former_8xb2-160k_ade20k-512x512",
}
# Larger than what is measured to predict it, in pixels and in images.
SIZE, BATCH = (224, 256), 3


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    monkeypatch.setattr(trials, "_AREAS", (128**2, 192**2))


def config_of(family: str, head: str):
    cfg = shrink(resolve(CONFIGS / f"{LEAVES[family]}_{HEADS[head]}.py"))
    use_scope(cfg.default_scope)
    return cfg


def measured(cfg, memory: str, precision: str) -> int:
    """Bytes at the peak of a process that builds the model and trains two steps."""
    cfg = copy.deepcopy(cfg)
    backbone = inner_model(cfg.model).backbone
    for one in backbone.get("anchors", [backbone]):
        one.memory = memory
    if precision == "bfloat16":
        cfg.optim_wrapper.type = "mmrev.BFloat16OptimWrapper"
    forget_kept()

    def train() -> None:
        model = MODELS.build(cfg.model)
        model.init_weights()
        if cfg.head_memory == "recompute":
            recompute_head(model)
        if hasattr(model.data_preprocessor, "size"):
            model.data_preprocessor.size = SIZE
        wrapper = build_optim_wrapper(model.train(), cfg.optim_wrapper)
        for _ in range(2):
            model.train_step(training_batch(cfg, SIZE, BATCH), wrapper)

    with seeded(0):
        return peak_memory(train)


def check(
    family: str,
    head: str,
    memory: str,
    precision: str = "float32",
    head_memory: str = "store",
) -> None:
    cfg = config_of(family, head)
    cfg.head_memory = head_memory
    costs = Trial(cfg).step_costs(memory, precision, SIZE)
    expected = measured(cfg, memory, precision)
    assert costs.peak(BATCH, SIZE) == pytest.approx(expected, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", LEAVES)
def test_is_within_a_tenth(family, head):
    check(family, head, "store")


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize(
    ("memory", "precision"),
    [("recompute", "float32"), ("reverse", "float32"), ("store", "bfloat16")],
)
def test_in_other_modes(memory, precision):
    check("revcol", "dino", memory, precision)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_with_a_head_that_runs_again(head):
    check("vanillanet", head, "store", head_memory="recompute")


def test_the_head_of_a_trial():
    cfg = config_of("vanillanet", "dino")
    trial = Trial(cfg)
    assert trial.heads == ["store", "recompute"]
    assert trial.head_memory == "store"

    def flops(trial):
        return trial.flops("store", 1, (64, 64))

    stored = flops(trial)
    trial.set_head_memory("recompute")
    again = flops(trial)
    assert again > stored
    trial.set_head_memory("store")
    assert flops(trial) == stored
    cfg.head_memory = "recompute"
    stated = Trial(cfg)
    assert stated.heads == [stated.head_memory] == ["recompute"]
    assert flops(stated) == again


def freeze(cfg):
    backbone = cfg.model.backbone
    backbone.of, backbone.type = backbone.type, FROZEN


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_frozen_is_within_a_tenth(head):
    cfg = config_of("swinv2", head)
    cfg.head_memory = "store"
    freeze(cfg)
    costs = Trial(cfg).step_costs("frozen", "float32", SIZE)
    expected = measured(cfg, "store", "float32")
    assert costs.peak(BATCH, SIZE) == pytest.approx(expected, rel=0.1)


def test_a_frozen_backbone_keeps_nothing_in_any_mode():
    cfg = config_of("revcol", "dino")
    tuned = Trial(cfg)
    freeze(cfg)
    frozen = Trial(cfg)
    assert frozen.memory == ["frozen"] and memory_keys(cfg) == []
    assert frozen.partly("frozen") == []
    size = (64, 64)
    costs = frozen.step_costs("frozen", "float32", size)
    least = tuned.step_costs(tuned.memory[-1], "float32", size)
    assert costs.weights.gradients < least.weights.gradients
    assert costs.peak(1, size) < costs.peak(2, size) < least.peak(2, size)
    assert frozen.flops("frozen", 1, size) < tuned.flops("store", 1, size)


@pytest.mark.parametrize(
    ("size", "batch", "timed", "told"),
    [((96, 96), 2, 2, 2.0), ((96, 96), 64, 4, 64.0), ((192, 192), 4, 1, 4.0)],
)
def test_small_images_are_timed_together(monkeypatch, size, batch, timed, told):
    """A step takes a second an image here."""
    counts = []

    def step(self, wrapper, size, count):
        counts.append(count)
        return lambda: None

    monkeypatch.setattr(Trial, "_step", step)
    monkeypatch.setattr(
        "mmrev.runs.trial.paired_times", lambda steps, *_: {"": float(counts[-1])}
    )
    trial = Trial(config_of("vanillanet", "dino"))
    counts.clear()
    assert trial.seconds(None, "float32", batch, size) == told
    assert counts == [timed]
