"""Intermediate supervision around real detectors, segmentors and classifiers."""

import copy

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from mmpretrain.structures import DataSample
from mmseg.structures import SegDataSample
from resolved import resolve
from torch.testing import assert_close

from mmrev.registry import MODELS

ARCH = {"channels": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "num_columns": 4}
DINO = "revcol-t_dino-4scale-supervised_8xb2-12e_coco"
MASK2FORMER = "revcol-t_mask2former-supervised_8xb2-160k_ade20k-512x512"
IMAGENET = "revcol-t_8xb128_in1k"


def shrunk(name):
    """The config as shipped, with widths and numbers that a test can afford."""
    config = resolve(f"revcol/{name}")
    DefaultScope.get_instance(f"test-{name}", scope_name=config.default_scope)
    model = config.model.model
    model.backbone.update(
        arch=ARCH, init_cfg=None, drop_path_rate=0.0, layer_scale_init_value=0.1
    )
    small = {"num_layers": 1}
    if config.default_scope == "mmdet":
        model.num_queries = 10
        model.neck.in_channels = ARCH["channels"][1:]
        model.encoder.update(small)
        model.decoder.update(small)
        model.dn_cfg.group_cfg.update(num_dn_queries=4)
    elif config.default_scope == "mmseg":
        head = model.decode_head
        head.in_channels = ARCH["channels"]
        head.num_queries = 10
        head.pixel_decoder.encoder.update(small)
        head.transformer_decoder.update(small)
        head.num_transformer_feat_level = 3
        head.train_cfg.num_points = 64
        model.data_preprocessor.size = (64, 64)
    else:
        model.neck.in_channels = model.head.in_channels = ARCH["channels"][-1]
    return config


def build(config, **backbone):
    torch.manual_seed(0)
    config.model.model.backbone.update(backbone)
    settings = copy.deepcopy(config.model)
    # As mmengine's runner does with a top-level preprocessor.
    if config.get("data_preprocessor") is not None:
        settings.setdefault("data_preprocessor", config.data_preprocessor)
    model = MODELS.build(settings)
    model.init_weights()
    # As after some training. At their initial 0, a norm over padding divides by the
    # root of its eps, and gradients grow a thousandfold with every level.
    for name, parameter in model.backbone.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train()


def images(*sizes):
    torch.manual_seed(3)
    return [torch.randint(0, 256, (3, *s), dtype=torch.uint8) for s in sizes]


def detection_batch():
    inputs, samples = images((64, 64), (48, 60)), []
    for picture, labels in zip(inputs, ([1, 7], [3]), strict=True):
        boxes = [[4.0, 4.0, 40.0, 30.0], [10.0, 8.0, 30.0, 44.0]][: len(labels)]
        shape = tuple(picture.shape[1:])
        element = DetDataSample(
            metainfo={"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1)}
        )
        element.gt_instances = InstanceData(
            bboxes=torch.tensor(boxes), labels=torch.tensor(labels)
        )
        samples.append(element)
    return {"inputs": inputs, "data_samples": samples}


def segmentation_batch():
    inputs, samples = images((64, 64), (64, 64)), []
    for shift in (0, 5):
        element = SegDataSample(metainfo={"img_shape": (64, 64), "ori_shape": (64, 64)})
        masks = torch.full((1, 64, 64), 255, dtype=torch.long)
        masks[:, :32], masks[:, 32:50, 10:40] = 3 + shift, 9
        element.gt_sem_seg = PixelData(data=masks)
        samples.append(element)
    return {"inputs": inputs, "data_samples": samples}


BATCHES = {DINO: detection_batch, MASK2FORMER: segmentation_batch}


def losses_and_gradients(model, data):
    torch.manual_seed(5)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    return total, losses, {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("name", BATCHES, ids=["dino", "mask2former"])
def test_dense_training_step(name):
    config, batch = shrunk(name), BATCHES[name]
    model = build(config, memory="store")
    total, losses, grads = losses_and_gradients(model, batch())
    auxiliary = {key for key in losses if key.startswith("loss_supervision_")}
    assert len(auxiliary) == 7
    with_grad = {key for key, grad in grads.items() if grad is not None}
    supervised = {key for key in grads if key.startswith("supervision.")}
    assert supervised <= with_grad
    for column in range(ARCH["num_columns"]):
        key = f"model.backbone.columns.{column}.levels.3.blocks.0.dwconv.weight"
        assert grads[key].abs().max() > 0

    for memory in ("recompute", "reverse"):
        found = losses_and_gradients(build(config, memory=memory), batch())
        assert torch.equal(found[0], total)
        assert {key for key, grad in found[2].items() if grad is not None} == with_grad
        assert all(torch.equal(found[2][key], grads[key]) for key in with_grad)


@pytest.mark.parametrize("name", BATCHES, ids=["dino", "mask2former"])
def test_optimizer_step_and_prediction(name):
    config, batch = shrunk(name), BATCHES[name]
    config.optim_wrapper.constructor = "mmrev.LayerDecayOptimWrapperConstructor"
    config.optim_wrapper.paramwise_cfg = {"decay_rate": 0.5}
    model = build(config)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    groups = {
        id(parameter): group["lr"]
        for group in wrapper.optimizer.param_groups
        for parameter in group["params"]
    }
    base = config.optim_wrapper.optimizer.lr
    layers = sum(ARCH["depths"]) + ARCH["num_columns"]
    assert groups[id(model.backbone.stem[0].weight)] == base * 0.5**layers
    assert groups[id(model.supervision.classifiers[0][-1].weight)] == base
    before = model.supervision.decoders[0][0][0].weight.clone()
    log = model.train_step(batch(), wrapper)
    assert torch.isfinite(log["loss"])
    assert not torch.equal(before, model.supervision.decoders[0][0][0].weight)

    model.eval()
    with torch.no_grad():
        found = model.test_step(batch())
        expected = model.model.test_step(batch())
    assert type(found[0]) is type(expected[0])
    key = "pred_instances" if name == DINO else "pred_sem_seg"
    for a, b in zip(found, expected, strict=True):
        a, b = a.get(key), b.get(key)
        a, b = (a.bboxes, b.bboxes) if name == DINO else (a.data, b.data)
        assert torch.equal(a, b)


@pytest.mark.parametrize("soft", [True, False], ids=["mixed", "plain"])
def test_imagenet_form(soft):
    config = shrunk(IMAGENET)
    config.model.num_classes = config.model.model.head.num_classes = 10
    config.data_preprocessor.num_classes = 10
    if not soft:
        config.model.model.train_cfg = None
    model = build(config)
    assert model.is_classifier and len(model.supervision.classifiers) == 3
    samples = [DataSample().set_gt_label(label) for label in (2, 7)]
    batch = {"inputs": images((64, 64), (64, 64)), "data_samples": samples}
    data = model.data_preprocessor(batch, True)
    assert ("gt_score" in data["data_samples"][0]) == soft
    losses = model(**data, mode="loss")
    assert losses.keys() == {"loss"} | {
        f"loss_supervision_{kind}_{i}" for kind in ("cls", "rec") for i in range(3)
    }
    with model.backbone.tap([1]) as taps:
        model.backbone(data["inputs"])
    scores = model.supervision.classifiers[1](taps[1])
    if soft:
        target = torch.stack([s.gt_score for s in data["data_samples"]])
    else:
        target = torch.nn.functional.one_hot(torch.tensor([2, 7]), 10).float()
    # The config's own criterion: label smoothing by 0.1.
    smooth = 0.9 * target + 0.1 / 10 if not soft else None
    own = model.model.head.loss_module
    expected = own(scores, target if soft else torch.tensor([2, 7]), avg_factor=2)
    if not soft:
        assert_close(expected, -(smooth * scores.log_softmax(-1)).sum() / 2)
    assert_close(losses["loss_supervision_cls_1"], 0.35 * expected)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
