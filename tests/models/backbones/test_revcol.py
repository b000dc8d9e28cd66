"""RevCol: sizes, shapes, settings, memory modes inside the model."""

import pytest
import torch
from tolerances import assert_close

from mmrev.measure.flops import count_flops
from mmrev.models.backbones.revcol import ARCHITECTURES, RevCol

SMALL = {"channels": [8, 12, 16, 24], "depths": [1, 1, 2, 1], "num_columns": 4}

# Counted in the reference, megvii-research/RevCol @1680848, without heads; the paper
# prints 2.1B for H. FLOPs: arXiv 2212.11696, tables 1 and 2 (H: at 640 px).
PUBLISHED = {
    "tiny": (29_942_144, 4.5e9, 224),
    "small": (60_054_400, 9.0e9, 224),
    "base": (138_038_256, 16.6e9, 224),
    "large": (272_068_352, 39e9, 224),
    "xlarge": (832_010_816, None, 224),
    "huge": (2_154_713_400, 2537e9, 640),
}


def small(**settings):
    torch.manual_seed(0)
    # Layer scale 1, or the blocks would hardly count.
    settings = {"arch": SMALL, "layer_scale_init_value": 1.0, **settings}
    model = RevCol(**settings)
    model.init_weights()
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_params_and_flops(arch):
    params, flops, size = PUBLISHED[arch]
    with torch.device("meta"):
        model = RevCol(arch)
        image = torch.empty(1, 3, size, size)
    assert sum(p.numel() for p in model.parameters()) == params
    if flops:
        assert count_flops(model.eval(), image) == pytest.approx(flops, rel=0.02)


def test_padding_is_at_the_end():
    """A larger image of zeros around the same content gives the same features there."""
    model = small().eval()
    image = torch.randn(1, 3, 61, 70)
    padded = torch.nn.functional.pad(image, (0, 2, 0, 3))
    for level, expected in zip(model(image), model(padded), strict=True):
        assert level.shape == expected.shape
        assert_close(level, expected)


@pytest.mark.parametrize("memory", ["recompute", "reverse"])
@pytest.mark.parametrize("top_to_bottom", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_memory_modes_are_equal(memory, top_to_bottom, autocast):
    image = torch.randn(2, 3, 61, 70)

    def gradients(memory):
        arch = {**SMALL, "top_to_bottom": top_to_bottom}
        model = small(
            arch=arch, drop_path_rate=0.3, out_norm="layer_norm", memory=memory
        )
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast), model.tap([1]):
            levels = model(image)
        sum((level.float() ** 2).mean() for level in levels).backward()
        return {name: p.grad for name, p in model.named_parameters()}

    expected = gradients("store")
    for name, grad in gradients(memory).items():
        if expected[name] is None:
            assert grad is None
            assert name.startswith("columns.0.gains")
        else:
            assert torch.equal(grad, expected[name]), name


@pytest.mark.parametrize("layer_scale", [1e-6, 1.0])
def test_gradients_of_padded_images_at_the_start(layer_scale):
    """Padding adds no more than its share, and is rebuilt bit for bit."""
    image = torch.randn(1, 3, 32, 32)
    padded = torch.nn.functional.pad(image, (0, 64, 0, 64))

    def gradient(image, memory="store"):
        model = small(layer_scale_init_value=layer_scale, memory=memory)
        generator = torch.Generator().manual_seed(2)
        sum(
            (level * torch.randn(level.shape, generator=generator)).mean()
            for level in model(image)
        ).backward()
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        return torch.cat([grad.flatten() for grad in grads])

    expected = gradient(padded)
    assert expected.norm() < gradient(image).norm()
    assert torch.equal(gradient(padded, "reverse"), expected)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("memory", ["store", "recompute", "reverse"])
def test_no_memory_mode_breaks_the_compilers_graph(memory):
    arch = {**SMALL, "depths": [1] * 4, "num_columns": 2}
    torch.compiler.reset()
    model = small(arch=arch, memory=memory, drop_path_rate=0.5)
    explained = torch._dynamo.explain(model)(torch.randn(1, 3, 37, 64))
    assert (explained.graph_break_count, explained.graph_count) == (0, 1)


def test_taps_are_the_coarsest_states_and_differentiable():
    model, image = small(), torch.randn(1, 3, 40, 40)
    with model.tap([0, 3]) as taps:
        levels = model(image)
    assert set(taps) == {0, 3}
    assert torch.equal(taps[3], levels[3])
    assert taps[0].shape == (1, 24, 2, 2)
    taps[0].sum().backward()
    assert model.columns[0].levels[3].down[0].weight.grad is not None
    assert model.columns[1].levels[3].down[0].weight.grad is None
    model(image)
    assert set(taps) == {0, 3}  # nothing is collected outside the context


def test_taps_of_frozen_columns():
    model = small(frozen_stages=2)
    with model.tap([0, 2]) as taps:
        model(torch.randn(1, 3, 40, 40))
    assert not taps[0].requires_grad
    assert taps[2].requires_grad


def test_all_columns_frozen():
    model = small(frozen_stages=4)
    assert not any(p.requires_grad for p in model.parameters())
    assert not model(torch.randn(1, 3, 32, 32))[0].requires_grad


def test_gain_of_zero_and_eval_leave_parameters_alone():
    model = small().eval()
    with torch.no_grad():
        model.columns[1].gains[0].zero_()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert model(torch.randn(1, 3, 32, 32))[0].isfinite().all()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_kernels_are_padded_on_loading():
    model, wide = small().eval(), small(kernel_size=7).eval()
    wide.load_state_dict(model.state_dict(), strict=True)
    image = torch.randn(1, 3, 64, 64)
    for level, expected in zip(wide(image), model(image), strict=True):
        assert_close(level, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "giant"}, "arch must be one of tiny, .*, got 'giant'"),
        ({"arch": {"channels": [1] * 4}}, "has the keys channels, depths, num_columns"),
        ({"arch": {**SMALL, "depth": 1}}, "got channels, depths, num_columns, depth"),
        ({"arch": {**SMALL, "depths": [1, 1]}}, "depths must be 4 numbers"),
        ({"arch": {**SMALL, "num_columns": 0}}, "num_columns must be >= 1, got 0"),
        ({"kernel_size": 4}, "kernel_size must be odd, got 4"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        RevCol(**{"arch": SMALL, **settings})


def test_tap_of_a_column_that_does_not_exist():
    with (
        pytest.raises(ValueError, match=r"taps must lie in 0..3, got 4"),
        small().tap([4]),
    ):
        pass
