import hashlib
import runpy
import sys
from pathlib import Path

import pytest
import torch
from goldens.closed_form import image, load_golden, parameter, revcol_shapes
from torch.testing import assert_close

from mmrev.checkpoints import (
    LAYOUTS,
    Layout,
    convert,
    convert_file,
    convert_state_dict,
    load_backbone,
    load_checkpoint_file,
    unwrap_state_dict,
)
from mmrev.registry import MODELS

GOLDEN = load_golden("revcol")
SMALL = {"channels": [4, 8, 16, 32], "depths": [1, 1, 2, 1], "num_columns": 2}
TOOL = Path(__file__).parents[2] / "tools" / "convert_checkpoint.py"


def revcol(**settings):
    return MODELS.build({"type": "mmrev.RevCol", "arch": SMALL, **settings})


def official(**settings):
    shapes = revcol_shapes(**SMALL | settings)
    return {name: parameter(name, shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    "case", GOLDEN["forward"], ids=lambda case: f"{case['case']}-{case['input'][2]}"
)
def test_reference_weights_give_reference_outputs(case):
    keys = ("channels", "depths", "num_columns", "top_to_bottom")
    arch = {key: case[key] for key in keys}
    weights = official(**arch, kernel_size=case["kernel_size"])
    model = revcol(arch=arch, kernel_size=case["kernel_size"], memory="store").eval()
    model.load_state_dict(convert_state_dict(weights), strict=True)
    with torch.no_grad():
        levels = model(image(tuple(case["input"])))
    for level, expected in zip(levels, case["levels"], strict=True):
        assert list(level.shape) == expected["shape"]
        flat = level.double().flatten()
        values = flat[[flat.numel() * i // 7 for i in range(7)]]
        scale = flat.abs().max().item()
        assert_close(
            values, torch.tensor(expected["values"]).double(), rtol=0, atol=1e-5 * scale
        )
        assert flat.abs().mean().item() == pytest.approx(expected["mean_abs"], 1e-5)


def test_small_kernel_embedded_in_a_larger_one_gives_the_same_output():
    weights = convert_state_dict(official())
    small, large = revcol(memory="store"), revcol(memory="store", kernel_size=7)
    small.load_state_dict(weights, strict=True)
    large.load_state_dict(weights, strict=True)
    x = image((1, 3, 64, 64))
    for a, b in zip(small(x), large(x), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-5)


def digest(shapes):
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("size", GOLDEN["keys"])
def test_every_key_of_every_official_size(size):
    with torch.device("meta"):
        model = revcol(arch=size)
    arch = {key: getattr(model, key) for key in ("channels", "depths", "num_columns")}
    arch["top_to_bottom"] = size == "huge"
    shapes = revcol_shapes(**arch)
    golden = GOLDEN["keys"][size]["backbone"]
    assert (len(shapes), digest(shapes)) == (golden["keys"], golden["sha256"])

    weights = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    result = convert({"model": weights})
    assert result.layout.name == "revcol"
    assert {k: v.shape for k, v in result.state_dict.items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }
    assert result.layout.backbone(result.state_dict)["arch"] == arch
    result.compare(model.state_dict()).check()


def heads(*names):
    return {name: torch.zeros(2) for name in names}


WRAPS = ["bare", "model", "state_dict", "state_dict_ema"]
OTHERS = [
    ("", ("cls.classifier.1.weight",)),
    ("", ("cls_blocks.3.classifier.0.bias", "decoder_blocks.2.projback.0.bias")),
    ("module.", ("module.cls.classifier.0.weight",)),
    ("backbone.", ("neck.lateral_convs.0.conv.weight", "roi_head.x.weight")),
    ("backbone.", ("decode_head.conv_seg.weight", "auxiliary_head.x.weight")),
    ("module.backbone.", ("module.bbox_head.x",)),
]


@pytest.mark.parametrize(
    ("wrap", "prefix", "others", "top_to_bottom"),
    [  # every pair of settings
        (wrap, *case, (i + j) % 2 == 0)
        for i, wrap in enumerate(WRAPS)
        for j, case in enumerate(OTHERS)
    ],
)
def test_official_layouts(wrap, prefix, others, top_to_bottom):
    weights = official(top_to_bottom=top_to_bottom)
    content = {prefix + key: value for key, value in weights.items()} | heads(*others)
    content = (
        content if wrap == "bare" else {"epoch": 3, "optimizer": {}, wrap: content}
    )
    if wrap == "model":
        content["state_dict_ema"] = None
    result = convert(content)
    assert sorted(result.dropped) == sorted(o.removeprefix("module.") for o in others)
    revcol(arch=SMALL | {"top_to_bottom": top_to_bottom}).load_state_dict(
        convert_state_dict(content), strict=True
    )
    expected = {value.data_ptr() for value in weights.values()}
    assert {value.data_ptr() for value in result.state_dict.values()} == expected


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_own_layout(prefix):
    model = revcol(out_norm="layer_norm", out_indices=(1, 3), kernel_size=5)
    content = {prefix + k: v for k, v in model.state_dict().items()}
    if prefix:
        content |= heads("bbox_head.cls.weight", "supervision.classifiers.0.1.weight")
    result = convert({"meta": {}, "state_dict": content})
    assert result.layout.name == "mmrev.RevCol"
    assert len(result.dropped) == (2 if prefix else 0)
    config = result.layout.backbone(result.state_dict)
    assert config["out_indices"] == [1, 3]
    MODELS.build(config).load_state_dict(result.state_dict, strict=True)


@pytest.mark.parametrize("value", [0.0, 1e-5, -1e-5, -0.5])
def test_gains_are_loaded_as_they_are(value):
    weights = official()
    weights["subnet1.alpha2"] = torch.full((1, 16, 1, 1), value)
    model = revcol()
    model.load_state_dict(convert_state_dict(weights), strict=True)
    model.eval()(image((1, 3, 32, 32)))
    assert torch.equal(model.columns[1].gains[2], weights["subnet1.alpha2"])


def test_errors_name_the_keys():
    with pytest.raises(ValueError, match=r"1 unexpected \(subnet0\.level0\.new\)"):
        convert_state_dict(official() | heads("subnet0.level0.new"))
    with pytest.raises(ValueError, match=r"one of the layouts revcol.*got conv1"):
        convert_state_dict(heads("conv1.weight"))
    with pytest.raises(ValueError, match=r"'auto' or one of revcol.*got 'timm'"):
        convert_state_dict(official(), layout="timm")
    with pytest.raises(ValueError, match=r"other values for epoch"):
        convert_state_dict(official() | {"epoch": 3})
    both = official() | dict(revcol().state_dict())
    with pytest.raises(ValueError, match=r"match revcol, mmrev.RevCol.*layout="):
        convert_state_dict(both)
    assert convert(both, layout="revcol").unexpected == [
        key for key in revcol().state_dict() if not key.startswith("stem.")
    ]


def test_a_layout_is_one_table_entry(monkeypatch):
    other = Layout("other", "first", (("first", "stem.0.bias"),), ("head.",), dict)
    monkeypatch.setitem(LAYOUTS, "other", other)
    bias = torch.ones(4)
    assert convert_state_dict({"first": bias, "head.w": bias}) == {"stem.0.bias": bias}


def test_comparison_with_another_architecture():
    result = convert(official()).compare(revcol(arch="tiny").state_dict())
    assert any(key.startswith("columns.3.") for key in result.missing)
    assert any(line.startswith("stem.0.weight (4,") for line in result.mismatched)
    with pytest.raises(ValueError, match=r"missing \(columns.*and \d+ more"):
        result.check()


def test_load_backbone_is_strict(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"model": official()}, path)
    model = revcol(init_cfg={"type": "Pretrained", "checkpoint": str(path)})
    model.init_weights()
    assert torch.equal(model.stem[0].bias, official()["stem.0.bias"])

    normed = revcol(out_norm="layer_norm")
    load_backbone(normed, path)
    assert torch.equal(normed.norms["3"].weight, torch.ones(32))

    with pytest.raises(ValueError, match=r"missing \(columns\.2\."):
        load_backbone(revcol(arch=SMALL | {"num_columns": 3}), path)
    with pytest.raises(ValueError, match=r"unexpected \(columns\.1\."):
        load_backbone(revcol(arch=SMALL | {"num_columns": 1}), path)
    with pytest.raises(ValueError, match=r"size mismatch for stem\.0\.weight"):
        load_backbone(revcol(arch=SMALL | {"channels": [8, 8, 16, 32]}), path)


def test_tool(tmp_path, monkeypatch, capsys):
    source, target = tmp_path / "in.pth", tmp_path / "out.safetensors"
    torch.save({"model": official() | heads("cls.classifier.0.weight")}, source)
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(source), str(target)])
    runpy.run_path(str(TOOL), run_name="__main__")
    printed = capsys.readouterr().out
    assert "dropped" in printed
    assert "cls.classifier.0.weight" in printed
    content = load_checkpoint_file(target)
    revcol().load_state_dict(content["state_dict"], strict=True)
    assert content["meta"]["lineage"]["starts"][0]["name"] == "in.pth"

    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(TOOL), run_name="__main__")
    expected = f"error: {target} exists already. Remove it or name another."
    assert stop.value.code == 1
    assert capsys.readouterr().err == f"{expected}\n"


@pytest.mark.parametrize(
    ("change", "arch", "message"),
    [
        (lambda w: w.pop("subnet1.level2.fusion.down.1.bias"), None, "1 missing"),
        (lambda w: w.update(heads("subnet1.beta")), None, r"1 unexpected \(subnet1.b"),
        (lambda w: w.pop("stem.0.weight"), None, "without the key 'stem.0.weight'"),
        (lambda w: None, "tiny", "missing .* of another shape"),
        (lambda w: None, "tinny", "arch must be one of tiny"),
    ],
)
def test_file_that_does_not_fit_is_not_written(tmp_path, change, arch, message):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    weights = official()
    change(weights)
    torch.save(weights, source)
    with pytest.raises(ValueError, match=message):
        convert_file(source, target, arch=arch).check()
    assert [path.name for path in tmp_path.iterdir()] == ["in.pth"]


def test_file_is_written_whole(tmp_path):
    source, target = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save({"state_dict": official()}, source)
    result = convert_file(source, target)
    assert result.backbone["arch"] == SMALL | {"top_to_bottom": False}
    written = unwrap_state_dict(load_checkpoint_file(target))
    assert written.keys() == revcol().state_dict().keys()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.pth", "out.pth"]
