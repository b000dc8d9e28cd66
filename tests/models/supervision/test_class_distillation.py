"""Hard distillation of classes: the reference's loss, a classifier's predictions."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmrev.models.supervision import ClassDistillation

BACKBONE = dict(
    type="mmrev.NFNet",
    arch=dict(channels=[8, 16, 24, 32], depths=[1, 1, 1, 1], group_width=4),
    out_indices=(3,),
)


def classifier(num_classes=5, **head):
    return dict(
        type="mmpretrain.ImageClassifier",
        backbone=BACKBONE,
        neck=dict(type="mmpretrain.GlobalAveragePooling"),
        head=dict(
            type="mmpretrain.LinearClsHead",
            num_classes=num_classes,
            in_channels=32,
            loss=dict(
                type="mmpretrain.LabelSmoothLoss", label_smooth_val=0.1, mode="original"
            ),
            **head,
        ),
    )


TEACHER = dict(classifier(), init_cfg=None)
TIMM = dict(
    type="mmpretrain.TimmClassifier",
    model_name="resnet10t",
    num_classes=5,
    init_cfg=None,
)


def build(teacher=TEACHER, **settings):
    torch.manual_seed(0)
    settings.setdefault("model", classifier())
    return ClassDistillation(teacher=teacher, **settings).train()


def batch(mixed=False):
    torch.manual_seed(1)
    image = torch.randn(4, 3, 64, 64)
    samples = [DataSample().set_gt_label(label) for label in (0, 2, 2, 4)]
    if mixed:
        for sample in samples:
            sample.set_gt_score(torch.rand(5).softmax(0))
    return image, samples


def reference_loss(base_loss, outputs, teacher_outputs, alpha):
    """ziplab/SN-Net @c2dcf30, stitching_deit/losses.py, 'hard'."""
    distilled = F.cross_entropy(outputs, teacher_outputs.argmax(dim=1))
    return base_loss * (1 - alpha) + distilled * alpha


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("teacher", [TEACHER, TIMM], ids=["mmpretrain", "timm"])
def test_equals_the_reference(teacher, mixed):
    model = build(teacher, alpha=0.3, model=classifier(cal_acc=not mixed))
    image, samples = batch(mixed)
    losses = model(image, samples, mode="loss")
    inner = model.model
    own = inner(image, samples, mode="loss")
    assert losses.keys() == {*own, "loss_distill"}
    assert losses.get("accuracy_top-1") == own.get("accuracy_top-1")
    expected = reference_loss(own["loss"], inner(image), model.teacher(image), 0.3)
    torch.testing.assert_close(losses["loss"] + losses["loss_distill"], expected)


def test_predicts_and_is_saved_as_the_classifier():
    model = build()
    image, samples = batch()
    model(image, samples, mode="loss")["loss_distill"].backward()
    assert not any(p.requires_grad for p in model.teacher._model.parameters())
    assert model.state_dict().keys() == model.model.state_dict().keys()
    model.eval()
    assert torch.equal(model(image), model.model(image))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(model=dict(type="mmrev.BareModel", backbone=BACKBONE)),
            r"ImageClassifier, got BareModel\. Dense models learn features",
        ),
        (dict(alpha=1.5), r"alpha must lie in 0\.\.1, got 1\.5"),
        (
            dict(teacher=classifier()),
            r"^ClassDistillation: expected a teacher with w",
        ),
    ],
)
def test_settings_that_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_a_teacher_of_other_classes():
    model = build(dict(classifier(num_classes=7), init_cfg=None))
    with pytest.raises(ValueError, match=r"\(4, 5\), got \(4, 7\)\. Give a teacher of"):
        model(*batch(), mode="loss")
