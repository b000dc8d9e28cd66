"""Swin-V2's configs hold the published settings."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from resolved import CONFIGS, resolve, use_scope
from shrink import inner_model, shrink

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


def one_a_stage(sizes):
    return [sizes] * 4 if isinstance(sizes, int) else list(sizes)


@pytest.mark.parametrize("path", BACKBONES, ids=lambda path: path.stem)
def test_pretrained_windows_are_those_of_the_file(path):
    backbone = resolve(path).backbone
    file = backbone.init_cfg.checkpoint
    (known,) = LAYOUTS["swin_v2"].from_name(file).values()
    sizes = one_a_stage(backbone.pretrained_window_sizes)
    if known.any():
        assert known.tolist() == sizes
    else:
        assert path.stem[7:] in ("h", "g", "s-moe8", "s-moe16", "s-moe32")  # unreleased


@pytest.mark.parametrize(
    "path", CONFIGS.glob("swin_v2/*_dino-*.py"), ids=lambda path: path.stem
)
def test_dino_has_scales_of_its_name(path):
    model = inner_model(resolve(path).model)
    scales = 5 if "5scale" in path.stem else 4
    levels = len(model.backbone.get("out_indices", range(4)))
    assert len(model.neck.in_channels) == levels == scales - 1
    assert model.neck.num_outs == scales


# Window, px, drop path: microsoft/Swin-Transformer @f82860b, configs/swinv2/.
CLASSIFIERS = {
    "t-w8_16xb64_in1k-256px": (8, 256, 0.2),
    "s-w8_16xb64_in1k-256px": (8, 256, 0.3),
    "b-w8_16xb64_in1k-256px": (8, 256, 0.5),
    "t-w16_16xb64_in1k-256px": (16, 256, 0.2),
    "s-w16_16xb64_in1k-256px": (16, 256, 0.3),
    "b-w16_16xb64_in1k-256px": (16, 256, 0.5),
    "b-w12_32xb128-90e_in22k-192px": (12, 192, 0.2),
    "l-w12_32xb128-90e_in22k-192px": (12, 192, 0.2),
    "b-w16-in22k_16xb64-30e_in1k-256px": (16, 256, 0.2),
    "l-w16-in22k_16xb64-30e_in1k-256px": (16, 256, 0.2),
    "b-w24-in22k_16xb64-30e_in1k-384px": (24, 384, 0.2),
    "l-w24-in22k_16xb64-30e_in1k-384px": (24, 384, 0.2),
    "b-w14-simmim_16xb128-100e_in1k-224px": (14, 224, 0.1),
}
# Epochs, warm-up, lr and final lr of the batch of its name, weight decay.
SCHEDULES = {
    "xb64_in1k": (300, 20, 1e-3, 1e-5, 0.05),
    "90e_in22k": (90, 5, 1e-3, 1e-5, 0.1),
    "30e_in1k": (30, 5, 4e-5, 4e-7, 1e-8),
    "100e_in1k": (100, 20, 5e-3, 1e-6, 0.05),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_the_published_settings(name):
    window, px, drop_path = CLASSIFIERS[name]
    cfg = resolve(f"swin_v2/swinv2-{name}")
    windows = one_a_stage(cfg.model.backbone.window_size)
    assert windows[:3] == [window] * 3
    assert windows[3] >= px // 32  # one window, as large as the map
    fine_tuned = "-30e" in name or "simmim" in name
    later = fine_tuned or "in22k" in name
    pretrained = [12, 12, 12, 6] if later else [window] * 3 + [8]
    stated = one_a_stage(cfg.model.backbone.pretrained_window_sizes)
    assert (stated if any(stated) else windows) == pretrained
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert (cfg.model.backbone.init_cfg is not None) == fine_tuned
    if "-30e" in name:
        file = cfg.model.backbone.init_cfg.checkpoint
        (known,) = LAYOUTS["swin_v2"].from_name(file).values()
        assert known.tolist() == pretrained

    (schedule,) = (row for key, row in SCHEDULES.items() if key in name)
    epochs, warmup, lr, final, weight_decay = schedule
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (lr, weight_decay)
    assert cfg.optim_wrapper.clip_grad.max_norm == 5
    linear, cosine = cfg.param_scheduler
    assert (linear.end, cosine.begin) == (warmup, warmup)
    assert linear.start_factor == (2e-4 if "simmim" in name else 1e-3)
    assert cfg.optim_wrapper.paramwise_cfg.decay_rate == (
        0.75 if "simmim" in name else 1
    )
    assert cosine.eta_min == final
    assert linear.convert_to_iter_based and cosine.convert_to_iter_based
    assert cfg.train_cfg.max_epochs == epochs
    classes = 21841 if "in22k-" in name else 1000
    assert cfg.model.head.num_classes == cfg.data_preprocessor.num_classes == classes
    assert [mix.alpha for mix in cfg.model.train_cfg.augments] == [0.8, 1.0]
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train["RandomResizedCrop"].scale == px
    assert train["RandAugment"].magnitude_level == 9
    assert train["RandomErasing"].erase_prob == 0.25
    test = {t.type: t for t in cfg.test_dataloader.dataset.pipeline}
    if px == 384:
        assert test["Resize"].scale == (384, 384)
    else:
        assert test["ResizeEdge"].scale == int(256 / 224 * px)
        assert test["CenterCrop"].crop_size == px


def test_a_larger_window_takes_the_weights_of_a_smaller_one(tmp_path):
    """22k at 192 px, window 12, into 1k at 384 px, window 24, and a step there."""
    use_scope("mmpretrain")
    torch.manual_seed(0)
    first = shrink(resolve("swin_v2/swinv2-b-w12_32xb128-90e_in22k-192px"))
    first.model.head.num_classes = 3
    source = MODELS.build(first.model)
    source.init_weights()
    for parameter in source.backbone.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    file = tmp_path / "first.pth"
    torch.save({"state_dict": source.state_dict()}, file)

    second = shrink(resolve("swin_v2/swinv2-b-w24-in22k_16xb64-30e_in1k-384px"))
    second.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(file))
    second.model.data_preprocessor = second.data_preprocessor
    model = MODELS.build(second.model)
    model.init_weights()
    for name, tensor in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor), name
    assert [*model.backbone.window_sizes] == [24] * 4
    wrapper = build_optim_wrapper(model, second.optim_wrapper)
    before = model.backbone.stem.proj.weight.detach().clone()
    samples = [DataSample().set_gt_label(label) for label in (1, 2)]
    data = dict(inputs=torch.rand(2, 3, 112, 112) * 255, data_samples=samples)
    assert model.train_step(data, wrapper)["loss"].isfinite()
    assert not torch.equal(model.backbone.stem.proj.weight, before)
