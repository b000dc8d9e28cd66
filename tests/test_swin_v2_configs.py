"""Swin-V2's configs hold the published settings."""

import pytest
from resolved import CONFIGS, resolve

from mmrev.checkpoints import LAYOUTS

BACKBONES = [
    path
    for path in sorted(CONFIGS.glob("_base_/backbones/swinv2-*.py"))
    if "demo" not in path.name
]

# crop, window, lr, drop path, steps: arXiv 2111.09883; those of G are ours.
UPERNET = {
    "t_upernet_8xb2-amp-160k": (512, 16, 4e-5, 0.3, 160_000),
    "s_upernet_8xb2-amp-160k": (512, 16, 4e-5, 0.3, 160_000),
    "b-in22k_upernet_8xb2-amp-160k": (512, 16, 4e-5, 0.3, 160_000),
    "l-in22k_upernet_8xb8-amp-40k": (640, 40, 6e-5, 0.3, 40_000),
    "g_upernet_64xb1-amp-40k": (640, 40, 6e-5, 0.5, 40_000),
}


@pytest.mark.parametrize("name", UPERNET)
def test_upernet_has_the_published_settings(name):
    crop, window, lr, drop_path, steps = UPERNET[name]
    path = CONFIGS / f"swin_v2/swinv2-{name}_ade20k-{crop}x{crop}.py"
    cfg = resolve(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("AdamW", lr, 0.05)
    decay = 0.975 if name.startswith("g_") else 0.95
    assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert cfg.model.backbone.window_size == window
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.model.backbone.out_norm == "layer_norm"
    assert cfg.model.data_preprocessor.size == (crop, crop)
    assert cfg.train_cfg.max_iters == steps
    linear, poly = cfg.param_scheduler
    assert (linear.end, poly.begin, poly.end, poly.power) == (1500, 1500, steps, 1)
    assert steps % cfg.train_cfg.val_interval == 0
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval


@pytest.mark.parametrize("path", BACKBONES, ids=lambda path: path.stem)
def test_pretrained_windows_are_those_of_the_file(path):
    backbone = resolve(path).backbone
    file = backbone.init_cfg.checkpoint
    (known,) = LAYOUTS["swin_v2"].from_name(file).values()
    sizes = backbone.pretrained_window_sizes
    sizes = [sizes] * 4 if isinstance(sizes, int) else list(sizes)
    if known.any():
        assert known.tolist() == sizes
    else:
        assert path.stem[7:] in ("h", "g", "s-moe8", "s-moe16", "s-moe32")  # unreleased


@pytest.mark.parametrize(
    "path", CONFIGS.glob("swin_v2/*_dino-*.py"), ids=lambda path: path.stem
)
def test_dino_has_scales_of_its_name(path):
    model = resolve(path).model
    scales = 5 if "5scale" in path.stem else 4
    levels = len(model.backbone.get("out_indices", range(4)))
    assert len(model.neck.in_channels) == levels == scales - 1
    assert model.neck.num_outs == scales
