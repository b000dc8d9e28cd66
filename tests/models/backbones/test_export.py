"""Every backbone, recorded by torch and run by others, gives what it gives here."""

import pytest
import torch
from shrink import BACKBONES
from tolerances import assert_close
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from mmrev.models.layers import FadedReLU
from mmrev.registry import MODELS


def config(name, **settings):
    cfg = {"type": f"mmrev.{name}", "arch": None}
    return {**BACKBONES[cfg["type"]](cfg), **settings}


def swin(width, depths, **settings):
    arch = {"embed_dims": width, "depths": depths, "num_heads": [1, 1, 2, 2]}
    return config("SwinTransformerV2", arch=arch, window_size=4, **settings)


def stitched():
    """A route from one anchor to another, and nothing else."""
    return {
        "type": "mmrev.StitchedBackbone",
        "anchors": [swin(8, [1, 1, 1, 1]), swin(16, [1, 1, 2, 1])],
        "routes": {"stages": (0, 1, 2), "monotone": True},
        "only": 2,
    }


CONFIGS = {
    "RevCol": config("RevCol"),
    "RevColV2": config("RevColV2"),
    "Swin-V2": swin(8, [2, 1, 1, 1], out_norm="layer_norm"),
    "NFNet": config("NFNet"),
    "VanillaNet": config("VanillaNet"),
    "VanillaNet, deployed": config("VanillaNet"),
    "ReduceNet": config("ReduceNet"),
    "ReduceNet, deployed": config("ReduceNet"),
    "a stitch": stitched(),
}


QUICK = ("VanillaNet", "ReduceNet, deployed")
every = pytest.mark.parametrize(
    "name",
    [
        name
        if name in QUICK
        else pytest.param(name, marks=[pytest.mark.slow, pytest.mark.ci])
        for name in CONFIGS
    ],
)


def build(name):
    """A backbone in evaluation mode of which every weight matters."""
    torch.manual_seed(0)
    model = MODELS.build(CONFIGS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, FadedReLU):
                module.fade.zero_()
    if "deployed" in name:
        model.switch_to_deploy()
    return model.eval()


def image():
    """Whose sides no stride divides."""
    return torch.randn(2, 3, 61, 70)


def check(model, run):
    """Compare another way to run a model with the model, on images it never saw."""
    for _ in range(2):
        x = image()
        with torch.no_grad():
            expected = model(x)
        for level, other in zip(run(x), expected, strict=True):
            assert_close(level, other)


@pytest.mark.parametrize("name", ["Swin-V2", "NFNet", "VanillaNet"])
@torch.no_grad()
def test_fake_tensors_leave_nothing_behind(name):
    """Nor do they find what a call left before."""
    model, x = build(name), torch.randn(1, 3, 45, 53)
    for _ in range(2):
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert all(isinstance(i, FakeTensor) for i in model(mode.from_tensor(x)))
        assert all(type(level) is torch.Tensor for level in model(x))


@every
def test_torch_export(name):
    """For batches of any number; what is kept between calls stays as it was."""
    model = build(name)
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (image(),), dynamic_shapes=(batch,))
    run = program.module()
    check(model, run)
    x = torch.randn(3, 3, 61, 70)
    for level, other in zip(run(x), model(x), strict=True):
        assert_close(level, other)


@every
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_trace(name):
    model = build(name)
    with torch.no_grad():
        traced = torch.jit.trace(model, (image(),))
    check(model, traced)


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_onnx(name):
    import onnxruntime

    model = build(name)
    batch = {0: torch.export.Dim("batch")}
    program = torch.onnx.export(
        model, (image(),), dynamo=True, dynamic_shapes=(batch,), verbose=False
    )
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    (name,) = (node.name for node in session.get_inputs())

    def run(x):
        return map(torch.from_numpy, session.run(None, {name: x.numpy()}))

    check(model, run)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["evaluated", "trained"])
@pytest.mark.parametrize("name", ["Swin-V2", "NFNet", "VanillaNet", "ReduceNet"])
def test_compiles_as_one_graph(name, training):
    model = build(name).train(training).requires_grad_(training)
    found = torch._dynamo.explain(model)(image())
    assert found.graph_break_count == 0, found.break_reasons
