"""Files of ordinary and of coupled backbones, loaded by the one and the other."""

import pytest
import torch

from mmrev.checkpoints import convert_file, load_backbone, load_checkpoint_file
from mmrev.registry import MODELS

BACKBONES = {
    "SwinTransformerV2": dict(
        arch=dict(embed_dims=16, depths=[2, 2, 2, 2], num_heads=[1, 1, 1, 1]),
        window_size=4,
    ),
    "NFNet": dict(
        arch=dict(depths=[1, 2, 2, 1], channels=[32, 32, 32, 32], group_width=8)
    ),
    "ReduceNet": dict(arch="18"),
}
FAMILIES = pytest.mark.parametrize("family", BACKBONES)


def build(family, **settings):
    return MODELS.build({"type": f"mmrev.{family}", **BACKBONES[family], **settings})


def save(model, path, prefix=""):
    weights = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({"state_dict": weights}, path)
    return path


def assert_loaded(model, expected):
    found, expected = model.state_dict(), expected.state_dict()
    for key, value in expected.items():
        if key != "coefficients":
            assert torch.equal(found[key], value), key


@FAMILIES
@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_ordinary_weights_start_a_coupled_backbone(tmp_path, family, prefix):
    ordinary = build(family)
    path = save(ordinary, tmp_path / "a.pth", prefix)
    coupled = build(family, coupling="dual", memory="reverse")
    coupled.coefficients.fill_(0.5)
    load_backbone(coupled, path)
    assert coupled.coefficients.tolist() == [1, 0]
    assert_loaded(coupled, ordinary)


@FAMILIES
def test_coupled_weights_keep_their_coefficients(tmp_path, family):
    coupled = build(family, coupling="dual")
    coupled.coefficients.copy_(torch.tensor([0.7, 0.3]))
    path = save(coupled, tmp_path / "a.pth", "backbone.")
    other = build(family, coupling="dual")
    load_backbone(other, path)
    assert torch.equal(other.coefficients, coupled.coefficients)
    assert_loaded(other, coupled)
    with pytest.raises(ValueError, match=r"a, b = \(0\.69\d*, 0\.3.*coupling='dual'"):
        load_backbone(build(family), path)


@FAMILIES
def test_coupled_weights_that_are_ordinary_still(tmp_path, family):
    coupled, ordinary = build(family, coupling="dual"), build(family)
    load_backbone(ordinary, save(coupled, tmp_path / "a.pth"))
    assert_loaded(ordinary, coupled)


@pytest.mark.parametrize("family", ["SwinTransformerV2", "NFNet"])
def test_two_streams_are_another_network(tmp_path, family):
    streams = build(family, coupling="two-stream")
    with pytest.raises(ValueError, match=r"\(1\.0, 0\.0\), .* Train it from scratch"):
        load_backbone(streams, save(build(family), tmp_path / "a.pth"))
    path = save(streams, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"a, b = \(0\.0, 1\.0\)"):
        load_backbone(build(family), path)
    other = build(family, coupling="two-stream")
    load_backbone(other, path)
    assert_loaded(other, streams)


def test_a_converted_file_keeps_them(tmp_path):
    coupled = build("SwinTransformerV2", coupling="dual")
    coupled.coefficients.copy_(torch.tensor([0.5, 0.5]))
    path = save(coupled, tmp_path / "a.pth", "backbone.")
    convert_file(path, tmp_path / "b.pth").check()
    converted = load_checkpoint_file(tmp_path / "b.pth")["state_dict"]
    assert torch.equal(converted["coefficients"], coupled.coefficients)
