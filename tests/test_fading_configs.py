"""The configs of VanillaNet and ReduceNet: what fades, and when."""

import pytest
from resolved import CONFIGS, resolve
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
