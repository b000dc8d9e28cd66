"""NFNet checkpoints: timm's layout, ours, and what is refused."""

import pytest
import timm
import torch
from timm.models.nfnet import NormFreeNet, _dm_nfnet_cfg

from mmrev.checkpoints import convert, convert_file, convert_state_dict, load_backbone
from mmrev.registry import MODELS

CHANNELS, DEPTHS = [256, 256, 256, 512], [1, 2, 1, 1]
ARCH = {"channels": CHANNELS, "depths": DEPTHS, "group_width": 128}


@pytest.fixture(scope="module")
def official():
    """The state dict of a small dm_nfnet, heads included."""
    torch.manual_seed(0)
    cfg = _dm_nfnet_cfg(depths=tuple(DEPTHS), channels=tuple(CHANNELS))
    return NormFreeNet(cfg, num_classes=3).state_dict()


def nfnet(**settings):
    return MODELS.build({"type": "mmrev.NFNet", "arch": ARCH, **settings})


def meta(name):
    with torch.device("meta"):
        return timm.create_model(name).state_dict()


@pytest.mark.parametrize("size", range(7))
def test_every_key_of_every_official_size(size):
    result = convert(meta(f"dm_nfnet_f{size}"))
    assert result.layout.name == "timm.dm_nfnet"
    assert {key.split(".")[0] for key in result.dropped} == {"final_conv", "head"}
    with torch.device("meta"):
        model = MODELS.build({"type": "mmrev.NFNet", "arch": f"F{size}"})
    result.compare(model.state_dict()).check()
    found = result.layout.backbone(result.state_dict)
    assert found == {
        "type": "mmrev.NFNet",
        "arch": {
            "channels": model.channels,
            "depths": model.depths,
            "group_width": 128,
        },
        "in_channels": 3,
    }


@pytest.mark.parametrize("wrap", ["bare", "model", "state_dict", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_wrapped(official, wrap, prefix):
    content = {prefix + key: value for key, value in official.items()}
    content = content if wrap == "bare" else {"epoch": 3, wrap: content}
    nfnet().load_state_dict(convert_state_dict(content), strict=True)


def test_gains_lose_their_axes(official):
    converted = convert_state_dict(official)
    gain = official["stages.1.0.conv2b.gain"]
    assert gain.shape == (128, 1, 1, 1)
    assert torch.equal(converted["stages.1.0.conv3.gain"], gain.flatten())
    assert converted["stages.1.0.se.fc1.weight"].shape == (128, 256)
    assert converted["stages.1.0.skip_gain"].shape == ()
    # No weight is copied.
    assert {v.data_ptr() for v in converted.values()} <= {
        v.data_ptr() for v in official.values()
    }


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_own_layout(prefix):
    model = nfnet(out_norm="layer_norm", out_indices=(1, 3))
    content = {prefix + k: v for k, v in model.state_dict().items()}
    if prefix:
        content |= {"neck.conv.gain": torch.zeros(2), "head.fc.bias": torch.zeros(2)}
    result = convert({"meta": {}, "state_dict": content})
    assert result.layout.name == "mmrev.NFNet"
    assert len(result.dropped) == (2 if prefix else 0)
    config = result.layout.backbone(result.state_dict)
    assert config["out_indices"] == [1, 3]
    MODELS.build(config).load_state_dict(result.state_dict, strict=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files(official, suffix, tmp_path):
    source, target = tmp_path / "timm.pth", tmp_path / f"ours{suffix}"
    torch.save(official, source)
    result = convert_file(source, target)
    assert result.backbone["arch"] == ARCH
    one, other = nfnet(), nfnet(out_norm="layer_norm")
    load_backbone(one, source)
    load_backbone(other, target)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])
    assert torch.equal(one.stem[-1].weight, official["stem.conv4.weight"])


@pytest.mark.parametrize("name", ["nfnet_f0", "eca_nfnet_l0"])
def test_models_of_other_numerics_are_refused(name):
    with pytest.raises(ValueError, match=r"expected timm's dm_nfnet_\*, got one with"):
        convert(meta(name))


def test_other_sizes_are_refused(official, tmp_path):
    torch.save(official, tmp_path / "timm.pth")
    model = nfnet()
    model.init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "timm.pth")}
    model.init_weights()
    deeper = nfnet(arch={**ARCH, "depths": [1, 2, 2, 1]})
    with pytest.raises(ValueError, match=r"missing \(stages.2.1.skip_gain"):
        load_backbone(deeper, tmp_path / "timm.pth")
    narrow = nfnet(arch={**ARCH, "group_width": 64})
    with pytest.raises(ValueError, match=r"size mismatch for stages.0.0.conv2.weight"):
        load_backbone(narrow, tmp_path / "timm.pth")
    with pytest.raises(ValueError, match=r"1 unexpected \(stages.0.0.attn.weight\)"):
        convert_state_dict(official | {"stages.0.0.attn.weight": torch.zeros(2)})
