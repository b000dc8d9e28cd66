"""What stands in for mmcv's compiled ops computes what they compute."""

import json
import subprocess
import sys
from pathlib import Path

import mmcv.ops
import pytest
import torch
from goldens.mmcv_ops import cases
from mmcv.ops import multi_scale_deform_attn, sigmoid_focal_loss, softmax_focal_loss
from mmcv.ops.carafe import carafe
from tolerances import assert_close
from torch.nn import functional as F

from mmrev import ops
from mmrev.errors import UserError
from mmrev.measure.memory import peak_memory
from mmrev.ops import extension

CASES = dict(cases())
GOLDENS = Path(__file__).parents[1] / "goldens/mmcv_ops.json"


@pytest.fixture
def stand_in(monkeypatch):
    """Let mmcv's ops be computed by the stand-in, compiled or not."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mmcv.ops.") and hasattr(module, "ext_module"):
            monkeypatch.setattr(module, "ext_module", extension)


@pytest.fixture(scope="module")
def goldens():
    return json.loads(GOLDENS.read_text())


def compare(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].shape == value.shape
        if not value.is_floating_point():
            assert found[key].tolist() == value.tolist()
        elif value.numel():
            assert_close(found[key], value)


@pytest.mark.parametrize("name", CASES)
def test_equals_the_compiled_op(name, goldens, stand_in):
    found = CASES[name]()
    expected = {
        key: torch.tensor(value, dtype=found[key].dtype).reshape(found[key].shape)
        for key, value in goldens[name].items()
    }
    compare(found, expected)


def test_goldens_are_of_these_cases(goldens):
    assert list(goldens) == list(CASES)


@pytest.mark.slow
@pytest.mark.skipif(not ops.are_compiled(), reason="make setup OPS=compiled")
@pytest.mark.parametrize("name", CASES)
def test_equals_the_compiled_op_that_is_here(name, request):
    expected = CASES[name]()
    request.getfixturevalue("stand_in")
    compare(CASES[name](), expected)


@pytest.mark.slow
@pytest.mark.skipif(not ops.are_compiled(), reason="make setup OPS=compiled")
def test_many_boxes_are_kept_as_by_the_compiled_op(request):
    generator = torch.Generator().manual_seed(0)
    corners = 200 * torch.rand(2000, 2, generator=generator)
    sides = 60 * torch.rand(2000, 2, generator=generator)
    boxes, scores = torch.cat([corners, corners + sides], 1), torch.rand(2000)

    def keep():
        found = [mmcv.ops.nms(boxes, scores, t, offset=o)[1] for t, o in pairs]
        return [*found, mmcv.ops.soft_nms(boxes[:300], scores[:300])[1]]

    pairs = [(threshold, offset) for threshold in (0.3, 0.7) for offset in (0, 1)]
    expected = keep()
    request.getfixturevalue("stand_in")
    for one, other in zip(keep(), expected, strict=True):
        assert one.tolist() == other.tolist()


def test_deformable_attention(stand_in):
    generator = torch.Generator().manual_seed(1)
    shapes = torch.tensor([[4, 6], [2, 3]])
    value = torch.randn(2, 30, 3, 5, generator=generator).double().requires_grad_()
    places = torch.rand(2, 7, 3, 2, 4, 2, generator=generator) * 1.4 - 0.2
    weights = torch.rand(2, 7, 3, 2, 4, generator=generator).double()
    inputs = [value, places.double().requires_grad_(), weights.requires_grad_()]
    plain = multi_scale_deform_attn.multi_scale_deformable_attn_pytorch(
        inputs[0], shapes, *inputs[1:]
    )
    found = multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply(
        inputs[0], shapes, torch.tensor([0, 24]), *inputs[1:], 64
    )
    assert_close(found, plain)
    towards = torch.randn(plain.shape, generator=generator).double()
    expected = torch.autograd.grad(plain, inputs, towards)
    gradients = torch.autograd.grad(found, inputs, towards)
    for one, other in zip(gradients, expected, strict=True):
        assert_close(one, other)


def test_deformable_attention_holds_the_samples_of_one_level(stand_in):
    shapes = torch.tensor([[16, 16]]).repeat(4, 1)
    inputs = [torch.rand(1, 1024, 4, 8), torch.rand(1, 1024, 4, 4, 4, 2)]
    inputs = [one.requires_grad_() for one in (*inputs, torch.rand(1, 1024, 4, 4, 4))]
    samples = 4 * 8 * 1024 * 4 * 4  # bytes, of a level
    attention = multi_scale_deform_attn.MultiScaleDeformableAttnFunction.apply
    starts = 256 * torch.arange(4)

    def step():
        output = attention(inputs[0], shapes, starts, *inputs[1:], 64)
        torch.autograd.grad(output.sum(), inputs)

    kept = sum(one.nbytes for one in inputs)
    assert peak_memory(step) < 6 * samples + kept


def test_sizes_of_levels_are_read_once_and_again_when_they_change(monkeypatch):
    shapes = torch.tensor([[2, 3], [1, 1]])
    read = []
    monkeypatch.setattr(
        torch.Tensor, "tolist", lambda self: read.append(self) or [[2, 3], [1, 1]]
    )
    for _ in range(3):
        assert extension._sizes_of(shapes) == [(2, 3), (1, 1)]
    assert len(read) == 1
    shapes[0, 0] = 4
    extension._sizes_of(shapes)
    assert len(read) == 2
    with torch.inference_mode():
        other = shapes.clone()
    assert extension._sizes_of(other) == [(2, 3), (1, 1)]


def losses(kind, logits, target, weight, gamma, alpha):
    """By their definitions."""
    classes = logits.shape[1]
    right = F.one_hot(target.clamp(min=0), classes + 1)[:, :classes].double()
    if kind == "sigmoid":
        p = logits.sigmoid()
        p = right * p + (1 - right) * (1 - p)
        factor = right * alpha + (1 - right) * (1 - alpha)
        loss = -factor * (1 - p) ** gamma * p.log()
    else:
        p = (logits.softmax(1) * right).sum(1)
        loss = -alpha * (1 - p) ** gamma * p.log() * (target >= 0)
    if weight is None:
        return loss
    of_row = torch.cat([weight, weight.new_ones(1)])[target]
    return loss * (of_row[:, None] if kind == "sigmoid" else of_row)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_focal_losses(kind, weighted, stand_in):
    generator = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(9, 4, generator=generator).double()
    target = torch.tensor([0, 1, 2, 3, 4 if kind == "sigmoid" else -1, 0, 2, 2, 1])
    weight = torch.rand(4, generator=generator).double() if weighted else None
    op = sigmoid_focal_loss if kind == "sigmoid" else softmax_focal_loss
    found, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    # mmcv's softmax writes into its input.
    loss = op(found * 1, target, 2.5, 0.3, weight, "sum")
    expected = losses(kind, plain, target, weight, 2.5, 0.3).sum()
    assert_close(loss, expected)
    loss.backward(), expected.backward()
    assert_close(found.grad, plain.grad)


def test_an_op_that_nothing_computes(stand_in):
    with pytest.raises(UserError) as caught:
        carafe(torch.zeros(1, 4, 4, 4), torch.zeros(1, 9, 8, 8), 3, 1, 2)
    line = str(caught.value)
    assert line.startswith(
        "mmcv.ops: carafe_forward is not computed here, and test_extension needs it."
    )
    assert "make setup OPS=compiled" in line
    with pytest.raises(UserError, match="roi_align with pool_mode='max'"):
        rois = torch.tensor([[0.0, 0, 0, 4, 4]])
        mmcv.ops.roi_align(torch.zeros(1, 1, 4, 4), rois, 2, 1.0, 0, "max", True)


def test_torchvision_that_does_not_work(stand_in, monkeypatch):
    def broken():
        raise RuntimeError("Couldn't load custom C++ ops.")

    monkeypatch.setattr("torchvision.extension._assert_has_ops", broken)
    with pytest.raises(UserError, match=r"does not work beside torch .*custom C\+\+"):
        mmcv.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)


WITHOUT = """
import sys
class Hidden:
    def find_spec(name, path=None, target=None):
        if name == "mmcv._ext":
            return Finder.find_spec(name)
from mmrev_ops import Finder
sys.meta_path.insert(0, Hidden)
import torch, mmcv.ops
from mmrev import ops
assert not ops.are_compiled() and not ops.ran()
mmcv.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)
image = torch.zeros(1, 1, 4, 4, requires_grad=True)
mmcv.ops.roi_align(image, torch.tensor([[0.0, 0, 0, 4, 4]]), 2).sum().backward()
print(ops.ran())
"""


def test_serves_a_process_without_compiled_ops():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT], capture_output=True, text=True
    )
    assert (run.stderr, run.stdout) == (
        "",
        "{'nms': 'torchvision', 'roi_align': 'torchvision'}\n",
    )


def test_says_that_ops_are_compiled(monkeypatch):
    monkeypatch.setattr("mmrev.ops.are_compiled", lambda: True)
    assert ops.ran() == {"all": "compiled"}
