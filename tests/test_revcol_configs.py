"""RevCol's configs hold the published settings, and the pieces fit together."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS, MODELS
from resolved import CONFIGS, resolve, use_scope
from shrink import inner_model, shrink

LEAVES = CONFIGS / "revcol"

# lr, layer decay, drop path: paper's appendix and the reference's detection configs.
CASCADE = {
    "t": (2e-4, 0.85, 0.3),
    "s": (2e-4, 0.85, 0.4),
    "b": (2e-4, 0.9, 0.4),
    "b-in22k": (1e-4, 0.9, 0.4),
    "l-in22k": (1e-4, 0.85, 0.5),
}


@pytest.mark.parametrize("size", CASCADE)
def test_cascade_has_the_published_settings(size):
    lr, decay, drop_path = CASCADE[size]
    cfg = resolve(f"revcol/revcol-{size}_cascade-mask-rcnn_8xb2-amp-3x_coco")
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.optimizer.type == "AdamW"
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.05
    assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert "out_norm" not in cfg.model.backbone
    assert cfg.train_cfg.max_epochs == 36
    warmup, steps = cfg.param_scheduler
    assert (warmup.end, steps.milestones) == (500, [27, 33])
    for head in cfg.model.roi_head.bbox_head:
        assert (head.num_shared_convs, head.num_shared_fcs) == (4, 1)
        assert head.norm_cfg.type == "SyncBN"
        assert (head.loss_bbox.type, head.loss_bbox.loss_weight) == ("GIoULoss", 10)
        assert head.reg_decoded_bbox
        assert not head.reg_class_agnostic
    whole, crop = cfg.train_dataloader.dataset.pipeline[3].transforms
    assert [side for side, _ in whole[0].scales] == list(range(480, 801, 32))
    assert [t.type for t in crop] == [
        "RandomChoiceResize",
        "RandomCrop",
        "RandomChoiceResize",
    ]


# crop, lr, layer decay, test stride, warm-up: the reference's segmentation configs.
UPERNET = {
    "t": (512, 6e-5, 1.0, 341, 1500),
    "s": (512, 4e-5, 1.0, 341, 1500),
    "b": (512, 4e-5, 1.0, 426, 1500),
    "b-in22k": (640, 4e-5, 0.9, 426, 1500),
    "l-in22k": (640, 4e-5, 0.9, 426, 3000),
    "h": (640, 4e-5, 0.9, 426, 3000),
}


@pytest.mark.parametrize("size", UPERNET)
def test_upernet_has_the_published_settings(size):
    crop, lr, decay, stride, warmup = UPERNET[size]
    batch = "16xb1" if size == "h" else "8xb2"
    cfg = resolve(f"revcol/revcol-{size}_upernet_{batch}-amp-160k_ade20k-{crop}x{crop}")
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.optim_wrapper.optimizer.lr == lr
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.01
    assert cfg.optim_wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert cfg.model.backbone.drop_path_rate == 0.3
    assert cfg.model.backbone.get("kernel_size", 3) == (7 if size == "h" else 3)
    assert cfg.model.decode_head.channels == (1440 if size == "h" else 512)
    assert cfg.model.decode_head.num_classes == 150
    assert cfg.model.auxiliary_head.num_classes == 150
    assert cfg.model.test_cfg == dict(
        mode="slide", crop_size=(crop, crop), stride=(stride, stride)
    )
    assert cfg.model.data_preprocessor.size == (crop, crop)
    linear, poly = cfg.param_scheduler
    assert (linear.end, poly.begin, poly.end, poly.power) == (warmup, warmup, 160000, 1)
    assert cfg.train_cfg.max_iters == 160000


@pytest.mark.parametrize("path", LEAVES.glob("*_dino-*.py"), ids=lambda p: p.stem)
def test_dino_has_scales_and_schedule_of_its_name(path):
    cfg = resolve(path)
    model = cfg.model.get("model", cfg.model)
    scales = 5 if "5scale" in path.stem else 4
    levels = len(model.backbone.get("out_indices", range(4)))
    assert len(model.neck.in_channels) == levels == scales - 1
    assert model.neck.num_outs == scales
    assert model.encoder.layer_cfg.self_attn_cfg.num_levels == scales
    assert model.decoder.layer_cfg.cross_attn_cfg.num_levels == scales
    epochs = 36 if "-36e" in path.stem else 12
    assert cfg.train_cfg.max_epochs == epochs
    steps = cfg.param_scheduler[0]
    assert steps.milestones == ([27, 33] if epochs == 36 else [11])
    assert steps.end == epochs
    assert cfg.optim_wrapper.optimizer.lr == 1e-4
    assert 0.8 <= cfg.optim_wrapper.paramwise_cfg.decay_rate < 1
    classes = 365 if path.stem.endswith("_objects365") else 80
    assert model.bbox_head.num_classes == classes


@pytest.mark.parametrize(
    "path", LEAVES.glob("*_mask2former*ade20k*"), ids=lambda p: p.stem
)
def test_mask2former_has_the_crop_of_its_name(path):
    cfg = resolve(path)
    crop = int(path.stem.rpartition("x")[2])
    model = cfg.model.get("model", cfg.model)
    assert model.data_preprocessor.size == (crop, crop)
    pipeline = cfg.train_dataloader.dataset.pipeline
    (step,) = [t for t in pipeline if t.type == "RandomCrop"]
    assert step.crop_size == (crop, crop)
    assert (crop == 512) == ("in22k" not in path.stem and "-h" not in path.stem)


@pytest.mark.parametrize("path", LEAVES.glob("*_mask2former*"), ids=lambda p: p.stem)
def test_mask2former_learns_as_its_base(path):
    wrapper = resolve(path).optim_wrapper
    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (1e-4, 0.05)
    keys = wrapper.paramwise_cfg.custom_keys
    assert set(keys) == {"backbone", "query_embed", "query_feat", "level_embed"}
    assert keys.backbone == dict(lr_mult=0.1)


@pytest.mark.parametrize("path", LEAVES.glob("*_coco.py"), ids=lambda p: p.stem)
def test_coco_is_tested_as_coco_does(path):
    cfg = resolve(path)
    evaluator = cfg.test_evaluator
    assert evaluator.type == "mmrev.CocoMetric"
    assert "proposal_nums" not in evaluator
    masks = cfg.model.type in ("CascadeRCNN", "Mask2Former")
    assert evaluator.metric == (["bbox", "segm"] if masks else "bbox")


@pytest.mark.parametrize(
    "name",
    ["revcol/revcol-h_dino-5scale_{}16xb1", "swin_v2/swinv2-t_dino-4scale_{}8xb2"],
)
def test_second_stage_takes_every_weight_of_the_first(name):
    """Objects365 -> COCO: nothing is dropped, class layers keep COCO's rows."""
    use_scope("mmdet")
    first = resolve(f"{name.format('')}-12e_objects365")
    second = resolve(f"{name.format('objects365-pre_')}-12e_coco")
    assert second.load_from == f"work_dirs/{Path(first.filename).stem}/epoch_12.pth"
    source, target = (MODELS.build(shrink(cfg).model) for cfg in (first, second))
    checkpoint = {"state_dict": dict(source.state_dict())}
    hook = HOOKS.build(second.custom_hooks[0])
    runner = SimpleNamespace(model=target, _resume=False, _train_loop={})
    runner.logger = SimpleNamespace(info=lambda text: None)
    hook.after_load_checkpoint(runner, checkpoint)
    target.load_state_dict(checkpoint["state_dict"], strict=True)
    name = "bbox_head.cls_branches.0.weight"
    rows = source.state_dict()[name][hook.rows]
    assert torch.equal(target.state_dict()[name], rows)


def test_missing_weights_are_named():
    use_scope("mmdet")
    cfg = resolve("revcol/revcol-t_dino-4scale_8xb2-12e_coco")
    backbone = MODELS.build(cfg.model.backbone)
    with pytest.raises(FileNotFoundError, match=r"data/pretrained/revcol_tiny_1k\.pth"):
        backbone.init_weights()


# lr of the batch of its name, final lr, weight decay, layer decay, drop path, clipping,
# EMA, epochs, px: megvii-research/RevCol @1680848, configs/.
CLASSIFIERS = {
    "t_8xb128_in1k": (1e-3, 1e-6, 0.05, 1.0, 0.1, None, True, 300, 224),
    "s_8xb128_in1k": (1e-3, 1e-6, 0.05, 1.0, 0.3, None, True, 300, 224),
    "b_8xb128_in1k": (1e-3, 1e-8, 0.05, 1.0, 0.4, 5, True, 300, 224),
    "b_32xb128-90e_in22k": (5e-4, 4e-7, 0.1, 1.0, 0.3, 10, False, 90, 224),
    "l_32xb128-90e_in22k": (5e-4, 4e-7, 0.1, 1.0, 0.3, 10, False, 90, 224),
    "xl_64xb64-90e_in22k": (5e-4, 4e-7, 0.1, 1.0, 0.4, 10, False, 90, 224),
    "b-in22k_16xb64-30e_in1k-224px": (1e-4, 2e-7, 1e-8, 0.9, 0.2, 10, False, 30, 224),
    "b-in22k_16xb64-30e_in1k-384px": (1e-4, 2e-7, 1e-8, 0.9, 0.2, 10, False, 30, 384),
    "l-in22k_16xb64-30e_in1k-224px": (5e-5, 2e-7, 1e-8, 0.8, 0.3, 10, False, 30, 224),
    "l-in22k_16xb64-30e_in1k-384px": (5e-5, 2e-7, 1e-8, 0.8, 0.3, 10, False, 30, 384),
    "xl-in22k_32xb32-30e_in1k-384px": (2e-5, 2e-7, 1e-8, 0.8, 0.4, 10, True, 30, 384),
    "h_64xb16-20e_in1k-640px": (4e-5, 2e-8, 1e-8, 0.8, 0.4, 100, True, 20, 640),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_the_published_settings(name):
    lr, final, weight_decay, decay, drop_path, clip, ema, epochs, px = CLASSIFIERS[name]
    cfg = resolve(f"revcol/revcol-{name}")
    model = inner_model(cfg.model)
    fine_tuned = "px" in name
    assert model.backbone.drop_path_rate == drop_path
    assert (model.backbone.init_cfg is not None) == fine_tuned
    assert (cfg.model.type == "mmrev.IntermediateSupervision") == (not fine_tuned)
    classes = 21841 if "in22k" in name.rpartition("_")[2] else 1000
    assert model.head.num_classes == cfg.data_preprocessor.num_classes == classes
    assert cfg.model.get("num_classes", classes) == classes
    assert model.head.loss.label_smooth_val == 0.1
    # Both are left out in fine-tuning, where the classifier starts next to nothing.
    assert (model.train_cfg is None) == fine_tuned
    assert (model.head.init_cfg or {}).get("std") == (2e-5 if fine_tuned else None)

    wrapper = cfg.optim_wrapper
    assert (wrapper.optimizer.lr, wrapper.optimizer.weight_decay) == (lr, weight_decay)
    assert wrapper.paramwise_cfg == dict(decay_rate=decay)
    assert (wrapper.get("clip_grad") or {}).get("max_norm") == clip
    assert [h.type for h in cfg.get("custom_hooks", [])] == ["EMAHook"] * ema
    *warmup, cosine = cfg.param_scheduler
    share = cosine.get("eta_min_ratio")  # as the reference, of each layer's own rate
    assert (share * lr if fine_tuned else cosine.eta_min) == pytest.approx(final)
    assert [w.end for w in warmup] == {300: [20], 90: [5]}.get(epochs, [])
    assert cosine.get("begin", 0) == sum(w.end for w in warmup)
    assert cosine.convert_to_iter_based
    assert cfg.train_cfg.max_epochs == epochs
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train["RandomResizedCrop"].scale == px
    assert train["RandomErasing"].erase_prob == 0.25
    test = [t.get("scale") for t in cfg.test_dataloader.dataset.pipeline[1:]]
    assert test == ([256, None, None] if px == 224 else [(px, px), None])


def test_a_larger_kernel_takes_the_weights_of_a_smaller_one(tmp_path):
    """H of a classifier, kernels of 3, in UPerNet with those of 7: equal features."""
    use_scope("mmpretrain")
    torch.manual_seed(0)
    first = shrink(resolve("revcol/revcol-h_64xb16-20e_in1k-640px"))
    source = MODELS.build(first.model)
    source.init_weights()
    for parameter in source.backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "first.pth"
    torch.save({"state_dict": source.state_dict()}, file)

    second = shrink(resolve("revcol/revcol-h_upernet_16xb1-amp-160k_ade20k-640x640"))
    init = dict(type="Pretrained", checkpoint=str(file))
    backbone = MODELS.build(dict(second.model.backbone, init_cfg=init))
    backbone.init_weights()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = source.backbone.eval()(image)[-1]
        found = backbone.eval()(image)[-1]
    assert backbone.columns[0].levels[0].blocks[0].dwconv.weight.shape[-1] == 7
    torch.testing.assert_close(found, expected)
    missing = {
        name
        for name, tensor in backbone.named_parameters()
        if tensor.std() < 0.05 and not name.endswith("dwconv.weight")
    }
    assert not missing
