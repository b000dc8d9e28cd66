import copy
import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from goldens.closed_form import image, load_golden, noise, parameter
from mmengine.model import BaseModel
from mmengine.runner.checkpoint import get_state_dict, load_state_dict
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from torch import nn
from torch.testing import assert_close

from mmrev.checkpoints import convert
from mmrev.engine import StrictCheckpointHook
from mmrev.errors import UserError
from mmrev.models.supervision.heads import build_classifier
from mmrev.models.supervision.intermediate import (
    IntermediateSupervision,
    tap_columns,
)
from mmrev.models.supervision.targets import class_presence
from mmrev.registry import MODELS

CHANNELS, DEPTHS = [8, 16, 32, 64], [1, 2, 2, 1]
LN2 = math.log(2)


class DenseToy(BaseModel):
    """The shape of a detector: a loss of its own on the backbone's last level."""

    with_neck = False

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor or {"type": "ImgDataPreprocessor"})
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(CHANNELS[-1], 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        out = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return {"loss": out.square().mean()} if mode == "loss" else out


class Head(nn.Module):
    def __init__(self, num_classes, loss):
        super().__init__()
        self.classifier = build_classifier(CHANNELS[-1], num_classes)
        self.loss_module = loss


class ClassifierToy(BaseModel):
    """The shape of mmpretrain's classifiers, with the reference's own head."""

    def __init__(self, backbone, num_classes, loss, data_preprocessor):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = Head(num_classes, loss)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        scores = self.head.classifier(self.backbone(inputs)[-1])
        if mode != "loss":
            return scores
        soft = "gt_score" in data_samples[0]
        target = [s.gt_score if soft else s.gt_label for s in data_samples]
        target = torch.stack(target) if soft else torch.cat(target)
        return {"loss": self.head.loss_module(scores, target, avg_factor=len(scores))}


@pytest.fixture(autouse=True, scope="module")
def toys():
    for toy in (DenseToy, ClassifierToy):
        MODELS.register_module(module=toy, force=True)
    yield
    for toy in (DenseToy, ClassifierToy):
        MODELS.module_dict.pop(toy.__name__)


def arch(num_columns):
    return {"channels": CHANNELS, "depths": DEPTHS, "num_columns": num_columns}


def dense(num_columns=4, num_classes=5, seed=0, backbone=None, **settings):
    torch.manual_seed(seed)
    backbone = {"layer_scale_init_value": 0.1, **(backbone or {})}
    backbone |= {"type": "mmrev.RevCol", "arch": arch(num_columns)}
    model = MODELS.build(
        {
            "type": "mmrev.IntermediateSupervision",
            "model": {"type": "DenseToy", "backbone": backbone},
            "num_classes": num_classes,
            **settings,
        }
    )
    return model.train()


def sample(labels=(), shape=None):
    element = BaseDataElement(metainfo={"img_shape": shape} if shape else {})
    element.gt_instances = InstanceData(labels=torch.tensor(labels, dtype=torch.long))
    return element


def batch(size=(64, 64)):
    torch.manual_seed(7)
    return torch.rand(2, 3, *size) * 255, [sample([0, 3, 3]), sample([])]


@pytest.mark.parametrize(
    ("num_columns", "expected"),
    [
        (1, [0]),
        (2, [0, 1]),
        (3, [0, 1, 2]),
        (4, [0, 1, 2, 3]),
        (5, [0, 2, 3, 4]),
        (7, [1, 3, 4, 6]),
        (8, [1, 3, 5, 7]),
        (12, [2, 5, 8, 11]),
        (16, [3, 7, 11, 15]),
    ],
)
def test_tap_columns(num_columns, expected):
    assert tap_columns(num_columns) == expected


def soft_cross_entropy(scores, target, avg_factor):
    return (-target * scores.log_softmax(-1)).sum() / avg_factor


def cross_entropy(scores, target, avg_factor):
    return nn.functional.cross_entropy(scores, target, reduction="sum") / avg_factor


def from_reference(name, case):
    """Our module path and the reference's for the parameters of one head."""
    last = case["num_columns"] - 1
    if name.startswith("head.classifier."):
        name = name.replace("head.classifier.", "supervision.classifiers.3.")
    area, kind, index, *rest = name.split(".")
    assert area == "supervision" and last
    if kind == "classifiers":
        return f"cls_blocks.{index}.classifier.{int(rest[0]) - 2}.{rest[1]}"
    block = f"decoder_blocks.{index}"
    if case["num_classes"] > 1000:
        return f"{block}.projback.{'.'.join(rest)}"
    stage, *rest = rest
    if stage == "3":
        return f"{block}.projback.0.{rest[0]}"
    if rest[0] == "4":
        return f"{block}.normal_layers.{stage}.0.{'.'.join(rest[1:])}"
    return f"{block}.proj_layers.{stage}.{'.'.join(rest)}"


def backbone_from_reference(name):
    _, column, kind, level, *rest = name.split(".")
    if kind == "gains":
        return f"subnet{column}.alpha{level}"
    part = ".".join(rest).replace("ups.0.", "fusion.up.channel_reschedule.")
    return f"subnet{column}.level{level}.{part.replace('down.', 'fusion.down.')}"


@pytest.mark.parametrize(
    "case",
    load_golden("revcol")["supervision"],
    ids=lambda case: f"{case['num_columns']}-{case['num_classes']}-{case['target']}",
)
def test_reference_losses(case):
    soft = case["target"] == "soft"
    scale = [255 * value for value in case["mean"]], [255 * v for v in case["std"]]
    model = MODELS.build(
        {
            "type": "mmrev.IntermediateSupervision",
            "num_classes": case["num_classes"],
            "model": {
                "type": "ClassifierToy",
                "num_classes": case["num_classes"],
                "loss": soft_cross_entropy if soft else cross_entropy,
                "backbone": {
                    "type": "mmrev.RevCol",
                    "arch": arch(case["num_columns"]),
                },
                "data_preprocessor": {
                    "type": "ImgDataPreprocessor",
                    "mean": scale[0],
                    "std": scale[1],
                },
            },
        }
    ).train()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.startswith("backbone.columns."):
                reference = backbone_from_reference(name.removeprefix("backbone."))
            elif name.startswith("backbone."):
                reference = name.removeprefix("backbone.")
            else:
                reference = from_reference(name, case)
            value.copy_(parameter(reference, tuple(value.shape)))
    samples = [BaseDataElement(), BaseDataElement()]
    if soft:
        scores = noise("target", (2, case["num_classes"])).float().softmax(1)
        for element, score in zip(samples, scores, strict=True):
            element.gt_score = score
    else:
        for element, label in zip(samples, (3, 7), strict=True):
            element.gt_label = torch.tensor([label])

    losses = model(image(tuple(case["input"])), samples, mode="loss")
    assert len(losses) == 1 + 3 + 3
    assert losses["loss"].item() == pytest.approx(case["parts"][3], 1e-5)
    for i in range(3):
        rec, cls = (losses[f"loss_supervision_{kind}_{i}"] for kind in ("rec", "cls"))
        assert rec.item() == pytest.approx(3 * (1 - i / 3) * case["rec"][i], 1e-5)
        assert cls.item() == pytest.approx(0.7 * (i + 1) / 4 * case["cls"][i], 1e-5)
        assert (rec + cls).item() == pytest.approx(case["parts"][i], 1e-5)
    total, _ = model.parse_losses(losses)
    assert total.item() == pytest.approx(case["total"], 1e-5)
    total.backward()
    backbone = model.backbone
    stem = backbone.stem[0].weight.grad.norm().item()
    first = backbone.columns[0].levels[3].blocks[0].pwconv1.weight.grad.norm().item()
    assert stem == pytest.approx(case["grad_norm_stem"], 1e-4)
    assert first == pytest.approx(case["grad_norm_first"], 1e-4)


def test_losses_by_hand():
    """Constant logits: every loss is a formula of the targets alone."""
    model = dense(num_columns=4, num_classes=5)
    with torch.no_grad():
        for classifier in model.supervision.classifiers:
            classifier[-1].weight.zero_()
            classifier[-1].bias.fill_(1.0)
        for decoder in model.supervision.decoders:
            decoder[-2].weight.zero_()
            decoder[-2].bias.fill_(-2.0)
    inputs = torch.full((2, 3, 60, 44), 51.0)
    inputs[0, :, :30] = 255.0
    inputs[1] = 999.0
    inputs[1, :, :10, :20] = 0.0
    samples = [sample([0, 3, 3]), sample([], shape=(10, 20))]
    losses = model(inputs, samples, mode="loss")

    presence = math.log1p(math.e) - (2 / 5 + 0 / 5) / 2
    area = 60 * 44 + 10 * 20
    brightness = (30 * 44 * (0.99 + 0.2) + 10 * 20 * 0.01) / area
    pixels = math.log1p(math.exp(-2)) + 2 * brightness
    expected = {
        "loss_supervision_rec_0": 3 * pixels,
        "loss_supervision_rec_1": 2 * pixels,
        "loss_supervision_rec_2": 1 * pixels,
        "loss_supervision_cls_0": 0.175 * presence,
        "loss_supervision_cls_1": 0.35 * presence,
        "loss_supervision_cls_2": 0.525 * presence,
        "loss_supervision_cls_3": 1 * presence,
    }
    found = {k: v.item() for k, v in losses.items() if "supervision" in k}
    assert found == pytest.approx(expected, 1e-5)


@pytest.mark.parametrize("num_columns", [1, 2, 3, 4, 5, 8])
def test_gradient_reaches_every_tapped_column(num_columns):
    model = dense(num_columns)
    losses = model(*batch(), mode="loss")
    taps = tap_columns(num_columns)
    assert len(losses) == 1 + 2 * len(taps) - 1
    for i, column in enumerate(taps):
        names = [f"loss_supervision_{kind}_{i}" for kind in ("cls", "rec")]
        loss = sum(losses[name] for name in names if name in losses)
        block = model.backbone.columns[column].levels[3].blocks[0].dwconv.weight
        (grad,) = torch.autograd.grad(loss, block, retain_graph=True)
        assert grad.abs().max() > 0
        if column + 1 < num_columns:
            later = model.backbone.columns[column + 1].levels[3].blocks[0].gamma
            assert torch.autograd.grad(
                loss, later, retain_graph=True, allow_unused=True
            ) == (None,)
    model.parse_losses(losses)[0].backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


def losses_and_gradients(model, inputs, samples):
    model.zero_grad()
    losses = model(inputs, samples, mode="loss")
    model.parse_losses(losses)[0].backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return losses, grads


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
@pytest.mark.parametrize("num_columns", [3, 8])
def test_memory_modes_are_equal(memory, num_columns):
    expected, grads = losses_and_gradients(
        dense(num_columns, backbone={"memory": "store"}), *batch((64, 70))
    )
    found, found_grads = losses_and_gradients(
        dense(num_columns, backbone={"memory": memory}), *batch((64, 70))
    )
    assert found.keys() == expected.keys() and found_grads.keys() == grads.keys()
    for name in expected:
        assert torch.equal(found[name], expected[name]), name
    for name, grad in grads.items():
        assert torch.equal(found_grads[name], grad), name


@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
def test_frozen_columns(memory):
    model = dense(4, backbone={"frozen_stages": 2, "memory": memory})
    _, grads = losses_and_gradients(model, *batch())
    frozen = ("model.backbone.stem.", "model.backbone.columns.0.")
    frozen += ("model.backbone.columns.1.",)
    assert not [name for name in grads if name.startswith(frozen)]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == grads.keys()


@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
def test_autocast(memory):
    model = dense(4, backbone={"memory": memory})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(*batch(), mode="loss")
    exact = model(*batch(), mode="loss")
    for name, loss in losses.items():
        if "supervision" in name:
            assert loss.dtype == torch.float32
            assert_close(loss, exact[name], rtol=0.02, atol=0.0)
    model.parse_losses(losses)[0].backward()
    grads = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(grad.isfinite().all() for grad in grads)


def test_distributed_has_no_unused_parameters(tmp_path):
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model = dense(4)
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):
            losses = parallel(*batch(), mode="loss")
            model.parse_losses(losses)[0].backward()
    finally:
        dist.destroy_process_group()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("mode", ["predict", "tensor"])
def test_predictions_are_the_inner_model_s(mode):
    model = dense().eval()
    inputs, samples = batch()
    assert torch.equal(model(inputs, samples, mode), model.model(inputs, samples, mode))
    data = {"inputs": [torch.zeros(3, 64, 64, dtype=torch.uint8)], "data_samples": []}
    assert model.test_step(data).shape == (1, 1)


def test_attributes_of_the_inner_model():
    model = dense()
    assert model.backbone is model.model.backbone
    assert model.with_neck is False
    assert model.data_preprocessor is model.model.data_preprocessor
    assert "data_preprocessor" not in dict(model.named_children())
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing


def test_state_dict_has_the_inner_model_s_names():
    model = dense(seed=1)
    plain = model.model
    weights = model.state_dict()
    heads = {key for key in weights if key.startswith("supervision.")}
    assert weights.keys() - heads == plain.state_dict().keys()
    assert list(weights) == list(get_state_dict(model))
    assert weights._metadata["backbone"] == plain.state_dict()._metadata["backbone"]

    other = dense(seed=2)
    assert other.load_state_dict(weights, strict=True)
    assert all(torch.equal(weights[k], v) for k, v in other.state_dict().items())

    plain.load_state_dict({k: v for k, v in weights.items() if k not in heads})
    result = other.load_state_dict(plain.state_dict(), strict=False)
    assert set(result.missing_keys) == heads
    assert not result.unexpected_keys

    again = dense(seed=3)
    load_state_dict(again, weights, strict=True)
    assert all(torch.equal(weights[k], v) for k, v in again.state_dict().items())
    assert "model.stem.0.bias" not in weights

    converted = convert({"state_dict": weights})
    assert converted.state_dict.keys() == plain.backbone.state_dict().keys()
    assert heads <= set(converted.dropped)


def test_checkpoint_fits_the_plain_model_in_testing():
    model = dense()
    runner = SimpleNamespace(
        model=dense(seed=1).model,
        _load_from="supervised.pth",
        _resume=False,
        cfg=SimpleNamespace(filename="plain.py"),
    )
    hook, weights = StrictCheckpointHook(), model.state_dict()
    hook.after_load_checkpoint(runner, {"state_dict": weights})
    assert torch.equal(runner.model.head.weight, model.head.weight)
    with pytest.raises(UserError, match=r"1 unexpected \(other\)"):
        hook.after_load_checkpoint(
            runner, {"state_dict": weights | {"other": weights["head.bias"]}}
        )


def test_copies_keep_their_own_weights():
    model = dense(seed=1)
    copied = copy.deepcopy(model)
    copied.load_state_dict(dense(seed=2).state_dict())
    assert copied.state_dict().keys() == model.state_dict().keys()
    assert not torch.equal(copied.head.weight, model.head.weight)


def test_initialisation_follows_the_reference():
    model = dense()
    model.init_weights()
    for module in model.supervision.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.bias.any()
            if module.weight.numel() > 300:
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.2)


def test_presence():
    element = BaseDataElement()
    element.gt_sem_seg = PixelData(data=torch.tensor([[[0, 255, 2], [2, 7, 0]]]))
    present = class_presence([element, element], num_classes=4)
    assert present.tolist() == [[1, 0, 1, 0]] * 2
    assert class_presence([sample([1, 1])], 3).tolist() == [[0, 1, 0]]
    single = BaseDataElement(gt_label=torch.tensor([2]))
    assert class_presence([single], 3).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("packed", [{}, {"gt_instances": InstanceData()}])
def test_presence_of_what_has_no_labels(packed):
    found = next(iter(packed), "none")
    with pytest.raises(ValueError, match=rf"gt_sem_seg or gt_label, got {found}\."):
        class_presence([BaseDataElement(**packed)], 3)


def test_backbone_without_columns():
    class Plain(BaseModel):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Conv2d(3, 3, 1)

        def forward(self, inputs, data_samples=None, mode="tensor"):
            return inputs

    MODELS.register_module(name="PlainToy", module=Plain)
    try:
        with pytest.raises(
            ValueError, match=r"offers tap\(columns\).*got Plain with backbone Conv2d"
        ):
            IntermediateSupervision({"type": "PlainToy"}, num_classes=3)
    finally:
        MODELS.module_dict.pop("PlainToy")
