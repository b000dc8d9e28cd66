"""Feature distillation: the reference's arithmetic, teachers of all kinds, refusals."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from torch import nn

from mmrev.checkpoints import save_state_dict
from mmrev.models.backbones import NFNet
from mmrev.models.supervision import BareModel, FeatureDistillation
from mmrev.models.supervision.feature_distillation import feature_loss
from mmrev.registry import MODELS

CHANNELS = [8, 16, 24, 32]
STUDENT = dict(
    type="mmrev.NFNet",
    arch=dict(channels=CHANNELS, depths=[1, 1, 1, 1], group_width=4),
)
LARGER = [16, 24, 32, 48]
TEACHER = dict(
    type="mmrev.NFNet",
    arch=dict(channels=LARGER, depths=[1, 1, 2, 1], group_width=4),
    out_indices=(3,),
    init_cfg=None,  # noise teaches as well here
)
LAST = dict(in_channels=[32], out_channels=[48])
RESNET = dict(depth=18, base_channels=8, stem_channels=8)


def build(teacher=TEACHER, student=STUDENT, **settings):
    torch.manual_seed(0)
    model = dict(type="mmrev.BareModel", backbone=student)
    settings = {**LAST, **settings}
    return FeatureDistillation(model, teacher, **settings).train()


def images(*sizes, side=64):
    """A batch, and samples that say how large its images are."""
    torch.manual_seed(1)
    samples = [DataSample(metainfo=dict(img_shape=size)) for size in sizes]
    return torch.randn(len(sizes), 3, side, side), samples


def loss_of(model, batch):
    return model(*batch, mode="loss")["loss_distill"]


def reference_loss(student, teacher, decoder):
    """SwinTransformer/Feature-Distillation @2115145, models/feature_distillation.py.

    Student and teacher are (N, tokens, C), the decoder a convolution of tokens.
    """
    predicted = decoder(student.permute(0, 2, 1)).permute(0, 2, 1)
    whiten = nn.LayerNorm(teacher.shape[-1], elementwise_affine=False)
    return nn.SmoothL1Loss(beta=2.0)(predicted, whiten(teacher)).mean()


@pytest.mark.parametrize("levels", [(-1,), (0, 2, 3)])
def test_equals_the_reference(levels):
    channels = dict(
        in_channels=[CHANNELS[level] for level in levels],
        out_channels=[LARGER[level] for level in levels],
    )
    teacher = dict(TEACHER, out_indices=[level % 4 for level in levels])
    model = build(teacher, levels=levels, weight=3.0, **channels)
    batch = images((64, 64), (64, 64))
    found = loss_of(model, batch)
    targets = model.teacher(batch[0])
    outputs = model.backbone(batch[0])
    expected = []
    for project, level, target in zip(model.supervision, levels, targets, strict=True):
        decoder = nn.Conv1d(project.in_channels, project.out_channels, 1)
        decoder.load_state_dict(
            {"weight": project.weight.flatten(2), "bias": project.bias}
        )
        tokens = [x.flatten(2).mT for x in (outputs[level], target)]
        expected.append(reference_loss(*tokens, decoder))
    torch.testing.assert_close(found, 3 * sum(expected) / len(expected))


def test_padding_is_left_out():
    torch.manual_seed(0)
    level, target = torch.randn(2, 1, 5, 4, 4).unbind()
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :33, :16] = 1  # of three rows and a column of cells some pixels
    whitened = (target - target.mean(1)) / target.var(1, unbiased=False).sqrt()
    error = F.smooth_l1_loss(level, whitened, beta=2.0, reduction="none")
    found = feature_loss(level, target, mask)
    torch.testing.assert_close(found, error[..., :3, :1].mean(), atol=1e-4, rtol=0)
    assert abs(found - error.mean()) > 1e-3


def test_the_teacher_is_no_part_of_the_model():
    model, batch = build(), images((64, 64))
    state = torch.get_rng_state()
    loss_of(model, batch).backward()
    assert torch.equal(torch.get_rng_state(), state)  # building it drew nothing
    teacher = model.teacher._model
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    keys = {f"backbone.{key}" for key in NFNet(arch=STUDENT["arch"]).state_dict()}
    assert model.state_dict().keys() - keys == {
        "supervision.0.weight",
        "supervision.0.bias",
    }
    counted = sum(p.numel() for p in model.parameters())
    assert counted == sum(v.numel() for v in model.state_dict().values())
    before = [p.clone() for p in teacher.parameters()]
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    model.train()
    assert not teacher.training
    assert all(map(torch.equal, before, teacher.parameters()))


def test_a_student_comes_closer():
    model, batch = build(), images((64, 64), (64, 64))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_dense_models_load_what_was_pretrained_strictly(tmp_path):
    path = tmp_path / "pretrained.pth"
    model = build()
    save_state_dict(model.state_dict(), path)
    init = dict(type="Pretrained", checkpoint=str(path))
    backbone = MODELS.build(dict(STUDENT, init_cfg=init))
    backbone.init_weights()
    for key, value in model.model.backbone.state_dict().items():
        assert torch.equal(backbone.state_dict()[key], value), key


class Head(BaseModel):
    """The shape of a detector."""

    def __init__(self, backbone, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(32, 1)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        out = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        return {"loss_own": out.square().mean()} if mode == "loss" else out


def test_beside_the_losses_of_another_model():
    MODELS.register_module(module=Head, force=True)
    try:
        inner = dict(type="Head", backbone=STUDENT)
        model = FeatureDistillation(inner, TEACHER, **LAST)
    finally:
        MODELS.module_dict.pop("Head")
    batch = images((64, 64))
    losses = model(*batch, mode="loss")
    assert losses.keys() == {"loss_own", "loss_distill"}
    plain = Head(STUDENT)
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if "supervision" not in k}
    )
    assert torch.equal(plain(batch[0]), model(batch[0]))


FOREIGN = {
    "mmdet": (dict(type="mmdet.ResNet", out_indices=(3,), **RESNET), 64),
    "mmseg": (dict(type="mmseg.ResNet", out_indices=(3,), **RESNET), 64),
    "mmpretrain": (dict(type="mmpretrain.ResNet", out_indices=(3,), **RESNET), 64),
    "timm": (
        dict(
            type="mmpretrain.TIMMBackbone",
            model_name="resnet10t",
            features_only=True,
            out_indices=(4,),
        ),
        512,
    ),
}


@pytest.mark.parametrize("toolbox", FOREIGN)
def test_teachers_of_every_toolbox_with_their_checkpoint(toolbox, tmp_path):
    config, width = FOREIGN[toolbox]
    if toolbox == "mmpretrain":
        config = dict(config, expansion=1)
    trained = MODELS.build(dict(config))
    trained.eval()
    path = tmp_path / "teacher.pth"
    save_state_dict({f"backbone.{k}": v for k, v in trained.state_dict().items()}, path)
    init = dict(type="Pretrained", checkpoint=str(path), prefix="backbone.")
    model = build(dict(config, init_cfg=init), out_channels=[width])
    batch = images((64, 64))
    assert loss_of(model, batch).isfinite()
    with torch.no_grad():
        expected = trained(batch[0])[-1]
    assert torch.equal(model.teacher(batch[0])[-1], expected)


VIT = dict(
    type="mmpretrain.VisionTransformer",
    arch=dict(embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=32),
    img_size=64,
    init_cfg=None,
)


def test_a_plain_vit_teaches_the_level_of_its_stride():
    model = build(
        dict(VIT, out_type="featmap"), levels=(2,), in_channels=[24], out_channels=[24]
    )
    loss_of(model, images((64, 64))).backward()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(teacher={k: v for k, v in TEACHER.items() if k != "init_cfg"}),
            r"a teacher with weights, got mmrev\.NFNet without init_cfg\. Set "
            r"init_cfg=dict\(type='Pretrained'",
        ),
        (dict(levels=()), r"for each of levels=\(\), got \(32,\)"),
        (dict(levels=(1, 2)), r"for each of levels=\(1, 2\), got \(32,\) and \(48,\)"),
        (
            dict(model=dict(type="mmpretrain.TimmClassifier", model_name="resnet10t")),
            r"a model with a backbone, got TimmClassifier",
        ),
    ],
)
def test_settings_that_are_refused(settings, message):
    model = dict(type="mmrev.BareModel", backbone=STUDENT)
    with pytest.raises(ValueError, match=message):
        FeatureDistillation(
            **{**dict(model=model, teacher=TEACHER), **LAST, **settings}
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(teacher=dict(TEACHER, out_indices=(2,))),
            r"strides of levels=\(-1,\), \(32,\), got \(16,\) on images of \(64, "
            r"64\)\. The student's backbone returns strides \(4, 8, 16, 32\)\. Give "
            r"the teacher, by its out_indices, maps of strides \(32,\), or set "
            r"levels=\(2,\)",
        ),
        (
            dict(
                teacher=dict(VIT, out_type="featmap"),
                student=dict(STUDENT, out_indices=(1, 3)),
            ),
            r"got \(16,\) .* returns strides \(8, 32\)\. Give the teacher, by its "
            r"out_indices, maps of strides \(32,\)\.$",
        ),
        (dict(teacher=dict(VIT)), r"expected 1 maps .* got \(1, 24\)\. Choose"),
        (
            dict(teacher=dict(TEACHER, out_indices=(2, 3))),
            r"expected 1 maps .*levels=\(-1,\), got \(1, 32, 4, 4\), \(1, 48, 2, 2\)",
        ),
        (dict(levels=(4,)), r"levels must lie in -4\.\.3, .* got \(4,\)"),
        (
            dict(in_channels=[16], out_channels=[40]),
            r"'in_channels': \[32\], 'out_channels': \[48\]\}, got .*\[16\].*\[40\]",
        ),
    ],
)
def test_teachers_that_do_not_fit(settings, message):
    model = build(**settings)
    with pytest.raises(ValueError, match=message):
        loss_of(model, images((64, 64)))


@pytest.mark.parametrize("form", ["of another model", "without a prefix"])
def test_checkpoints_that_lack_weights_of_the_teacher(form, tmp_path):
    """mmengine would log it and go on with noise."""
    config = dict(type="mmdet.ResNet", out_indices=(3,), **RESNET)
    weights = MODELS.build(dict(config)).state_dict()
    if form == "of another model":
        weights = {k: v for k, v in weights.items() if not k.startswith("layer4.1")}
    else:
        weights = {f"backbone.{key}": value for key, value in weights.items()}
    path = tmp_path / "teacher.pth"
    save_state_dict(weights, path)
    init = dict(type="Pretrained", checkpoint=str(path))
    model = build(dict(config, init_cfg=init), out_channels=[64])
    number = "6" if form == "of another model" else "60"
    with pytest.raises(ValueError, match=rf"teacher ResNet, .*without {number} of "):
        loss_of(model, images((64, 64)))


def test_a_checkpoint_that_is_not_there():
    init = dict(type="Pretrained", checkpoint="nowhere.pth")
    model = build(dict(TEACHER, init_cfg=init))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        loss_of(model, images((64, 64)))


def test_a_backbone_alone_predicts_nothing():
    model = BareModel(STUDENT)
    assert model(images((64, 64))[0], mode="loss") == {}
    with pytest.raises(ValueError, match="cannot be tested"):
        model(images((64, 64))[0], mode="predict")
