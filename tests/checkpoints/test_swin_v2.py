"""Swin-V2's layouts: official, SimMIM, timm, mmpretrain, ours; and the windows."""

import hashlib
import re

import pytest
import timm
import torch
from goldens.closed_form import image, load_golden, parameter, swin_v2_shapes
from mmpretrain.models import SwinTransformerV2 as MMPretrainSwin
from timm.models.swin_transformer_v2 import checkpoint_filter_fn

from mmrev.checkpoints import (
    LAYOUTS,
    convert,
    convert_file,
    convert_state_dict,
    load_backbone,
)
from mmrev.registry import MODELS

GOLDEN = load_golden("swin_v2")
SMALL = {"embed_dims": 16, "depths": [2, 2, 3, 2], "num_heads": [1, 2, 2, 4]}
TABLES = ("relative_coords_table", "relative_position_index", "attn_mask")
NORMED = {"out_norm": "layer_norm", "out_indices": (3,)}


def swin(**settings):
    settings = {"arch": SMALL, **NORMED, **settings}
    return MODELS.build({"type": "mmrev.SwinTransformerV2", **settings})


def official(case):
    """The reference's state dict of a golden case, its tables from the golden."""
    arch = [case[key] for key in ("embed_dims", "depths", "num_heads")]
    shapes = swin_v2_shapes(*arch, case["window_size"], case["image_side"])
    weights = {k: parameter(k, s) for k, s in shapes.items() if not k.endswith(TABLES)}
    for key, shape in shapes.items():
        if key.endswith("coords_table"):
            axis = torch.tensor(case["coordinates"][int(key.split(".")[1])])
            table = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)[None]
            assert table.shape == shape
            weights[key] = table
        elif key.endswith(TABLES):
            weights[key] = torch.zeros(shape)
    return weights | {"head.weight": torch.zeros(2, 128), "head.bias": torch.zeros(2)}


def without_tables(weights):
    return {k: v for k, v in weights.items() if not k.endswith(TABLES)}


CASES = {case["case"]: case for case in GOLDEN["forward"]}


def close(actual, expected):
    """<= 1e-5 of the largest value, for the golden's digits and fp32."""
    bound = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_reference_weights_give_reference_outputs(case):
    weights = convert_state_dict({"model": official(case)})
    model = swin(
        window_size=case["window_size"],
        pretrained_window_sizes=case["pretrained_window_sizes"],
    ).eval()
    model.load_state_dict(weights, strict=True)
    model.out_indices = (0, 1, 2, 3)
    del model.norms
    side = case["image_side"]
    with torch.no_grad():
        levels = model(image((2, 3, side, side)))
    for level, expected in zip(levels, case["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        flat = level.flatten()
        close(
            flat[[flat.numel() * i // 7 for i in range(7)]],
            torch.tensor(expected["values"]),
        )
        assert flat.abs().mean().item() == pytest.approx(expected["mean_abs"], 1e-5)


@pytest.mark.parametrize("name", GOLDEN["keys"])
def test_every_key_of_every_official_size(name):
    size, window, side = re.fullmatch(r"(\w+)_window(\d+)_(\d+)", name).groups()
    simmim = size.startswith("simmim_")
    arch = size.removeprefix("simmim_")
    prefix = "encoder." if simmim else ""
    with torch.device("meta"):
        model = swin(arch=arch)
    dims, depths = model.channels[0], model.depths
    heads = [len(s[-1].attn.layer.attention.logit_scale) for s in model.stages]
    shapes = swin_v2_shapes(dims, depths, heads, int(window), int(side))
    shapes = {prefix + key: shape for key, shape in shapes.items()}
    if simmim:
        shapes |= {"encoder.mask_token": (1, 1, dims)}
        shapes |= {
            "decoder.0.weight": (3072, 8 * dims, 1, 1),
            "decoder.0.bias": (3072,),
        }
    lines = sorted(f"{key} {list(shape)}" for key, shape in shapes.items())
    golden = GOLDEN["keys"][name]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == golden["sha256"]

    weights = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    result = convert({"model": without_tables(weights)}, name=f"swinv2_{name}.pth")
    assert result.layout.name == ("swin_v2.simmim" if simmim else "swin_v2")
    result.compare(model.state_dict()).check()
    side = int(side) // 4
    expected = [min(int(window), side // 2**stage) for stage in range(4)]
    config = result.layout.backbone(result.state_dict)
    assert config["pretrained_window_sizes"] == expected
    assert config["arch"]["depths"] == depths
    assert config["arch"]["num_heads"] == heads
    assert config["out_indices"] == [3]


def test_old_name_of_the_position_mlp():
    weights = official(CASES["trained"])
    old = {k.replace("cpb_mlp", "rpe_mlp"): v for k, v in weights.items()}
    expected = convert_state_dict(weights)
    converted = convert_state_dict(old)
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], expected[key]) for key in expected)


def test_layer_ids_are_the_references():
    with torch.device("meta"):
        model = swin(arch="tiny")
    heads = [3, 6, 12, 24]
    lines = []
    for key in swin_v2_shapes(96, model.depths, heads, 8, 256):
        if not key.endswith(TABLES):
            layer, number = model.get_layer_depth(LAYOUTS["swin_v2"].rename(key))
            assert number == 14
            lines.append(f"{key} {layer}")
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    assert digest == GOLDEN["layer_ids"]["tiny"]


def random_(model):
    torch.manual_seed(0)
    for name, value in model.named_parameters():
        if value.ndim == 1 and name.endswith("weight"):
            torch.nn.init.uniform_(value, 0.5, 1.5)
        else:
            torch.nn.init.normal_(value, std=0.1)
    model.eval()
    return model


def test_timm_takes_what_we_call_official():
    """Two independent conversions of one official checkpoint agree."""
    case = CASES["trained"]
    reference = timm.models.swin_transformer_v2.SwinTransformerV2(
        img_size=64,
        num_classes=2,
        window_size=4,
        embed_dim=16,
        depths=SMALL["depths"],
        num_heads=SMALL["num_heads"],
    )
    weights = checkpoint_filter_fn(official(case), reference)
    reference.load_state_dict(weights, strict=True)
    from_timm = convert_state_dict(reference.state_dict())
    ours = convert_state_dict(official(case))
    assert ours.pop("pretrained_windows").tolist() == [4, 4, 4, 2]
    assert from_timm.pop("pretrained_windows").tolist() == [0, 0, 0, 0]
    assert from_timm.keys() == ours.keys()
    assert all(torch.equal(from_timm[key], ours[key]) for key in ours)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_mmpretrain_layout(prefix):
    arch = SMALL | {"extra_norm_every_n_blocks": 2}
    reference = random_(
        MMPretrainSwin(
            arch=arch,
            window_size=4,
            pretrained_window_sizes=[6, 6, 4, 3],
            out_indices=(1, 3),
        )
    )
    content = {prefix + k: v for k, v in reference.state_dict().items()}
    content |= {"head.fc.weight": torch.zeros(2, 128)}
    result = convert({"state_dict": content})
    assert result.layout.name == "mmpretrain.SwinTransformerV2"
    config = result.layout.backbone(result.state_dict)
    assert config["pretrained_window_sizes"] == [6, 6, 4, 3]
    assert config["out_indices"] == [1, 3]
    assert config["arch"] == arch
    model = MODELS.build({**config, "window_size": 4}).eval()
    model.load_state_dict(result.check().state_dict, strict=True)
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        for level, expected in zip(model(x), reference(x), strict=True):
            # The norms' eps differ: 1e-6 and 1e-5.
            torch.testing.assert_close(level, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_own_layout(prefix):
    arch = SMALL | {"extra_norm_every_n_blocks": 2}
    model = swin(arch=arch, out_indices=(1, 3), pretrained_window_sizes=(6, 6, 6, 3))
    content = {prefix + k: v for k, v in model.state_dict().items()}
    result = convert(content)
    assert result.layout.name == "mmrev.SwinTransformerV2"
    config = result.layout.backbone(result.state_dict)
    assert config["out_indices"] == [1, 3]
    assert config["arch"] == arch
    MODELS.build(config).load_state_dict(result.state_dict, strict=True)


@pytest.mark.parametrize(
    ("name", "windows"),
    [
        ("swinv2_tiny_patch4_window8_256.pth", [8, 8, 8, 8]),
        ("swinv2_base_patch4_window16_256.pth", [16, 16, 16, 8]),
        ("swinv2_large_patch4_window12_192_22k.pth", [12, 12, 12, 6]),
        (
            "swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth",
            [12, 12, 12, 6],
        ),
        ("timm/swinv2_small_window16_256.ms_in1k/model.safetensors", [16, 16, 16, 8]),
        (
            "swinv2_large_window12to24_192to384.ms_in22k_ft_in1k.safetensors",
            [12, 12, 12, 6],
        ),
        ("swinv2-tiny-w16_3rdparty_in1k-256px_20220803-9651cdd7.pth", [16, 16, 16, 8]),
        (
            "swinv2-base-w24_in21k-pre_3rdparty_in1k-384px_20220803-44eb70f8.pth",
            [12, 12, 12, 6],
        ),
        ("swinv2-base-w12_3rdparty_in21k-192px_20220803-f7.pth", [12, 12, 12, 6]),
        ("model.safetensors", [0, 0, 0, 0]),
    ],
)
def test_windows_of_released_files(name, windows):
    weights = without_tables(official(CASES["trained"]))
    assert convert(weights, name=name).state_dict["pretrained_windows"].tolist() == (
        windows
    )


def test_windows_of_the_tables_come_before_those_of_the_name():
    weights = official(CASES["fine-tuned"])
    result = convert(weights, name="swinv2_base_window16_256.pth")
    assert result.state_dict["pretrained_windows"].tolist() == [6, 6, 6, 3]


@pytest.mark.parametrize("wrong", [0, (6, 6, 6, 6), (8, 8, 8, 4)])
@pytest.mark.parametrize("tables", ["from tables", "from the name"])
def test_other_windows_are_an_error_that_names_the_right_ones(tmp_path, wrong, tables):
    weights = official(CASES["fine-tuned"])
    path = tmp_path / "swinv2_base_window6_96.pth"
    if tables == "from the name":
        weights = without_tables(weights)
    torch.save({"model": weights}, path)
    load_backbone(swin(window_size=8, pretrained_window_sizes=(6, 6, 6, 3)), path)
    model = swin(window_size=8, pretrained_window_sizes=wrong)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    message = r"Set pretrained_window_sizes=\(6, 6, 6, 3\)"
    with pytest.raises(ValueError, match=message):
        load_backbone(model, path)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("swinv2_tiny_patch4_window16_256.pth", "16, 16, 16, 8"),
        ("swinv2_base_patch4_window12to16_192to256_22kto1k_ft.pth", "12, 12, 12, 6"),
    ],
)
def test_a_released_file_and_the_window_that_seems_right(tmp_path, name, right):
    torch.save(without_tables(official(CASES["trained"])), tmp_path / name)
    with pytest.raises(ValueError, match=rf"pretrained_window_sizes=\({right}\)"):
        load_backbone(swin(window_size=16), tmp_path / name)


def test_unknown_windows_are_taken_for_the_models_with_a_warning(tmp_path, monkeypatch):
    weights = without_tables(official(CASES["fine-tuned"]))
    torch.save({"model": weights}, tmp_path / "mine.pth")
    model = swin(window_size=8, pretrained_window_sizes=(6, 6, 6, 3))
    messages = []
    monkeypatch.setattr(
        "mmrev.models.backbones.swin_transformer_v2.print_log",
        lambda message, **_: messages.append(message),
    )
    load_backbone(model, tmp_path / "mine.pth")
    assert model.pretrained_windows.tolist() == [6, 6, 6, 3]
    (message,) = messages
    assert "pretrained_window_sizes=[6, 6, 6, 3] is taken for right" in message


def test_file_to_our_layout(tmp_path):
    source, target = tmp_path / "swinv2.pth", tmp_path / "ours.safetensors"
    torch.save({"model": official(CASES["fine-tuned"])}, source)
    result = convert_file(source, target).check()
    assert result.backbone["pretrained_window_sizes"] == [6, 6, 6, 3]
    model = swin(window_size=8, pretrained_window_sizes=(6, 6, 6, 3))
    load_backbone(model, target)
    # Without a norm of level 3 that of the file is left.
    load_backbone(
        swin(window_size=8, pretrained_window_sizes=(6, 6, 6, 3), out_norm=None), target
    )
    with pytest.raises(ValueError, match="Set pretrained_window_sizes"):
        load_backbone(swin(window_size=8), target)


def test_swin_v1_is_refused():
    weights = official(CASES["trained"])
    weights["layers.0.blocks.0.attn.relative_position_bias_table"] = torch.zeros(9, 2)
    with pytest.raises(ValueError, match=r"unexpected.*relative_position_bias_table"):
        convert_state_dict(weights)
