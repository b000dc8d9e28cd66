"""Memory modes and couplings of every family."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import test_nfnet
import test_reducenet
import test_revcol
import test_swin_transformer_v2
import test_vanillanet
import torch
from torch import nn

from mmrev.checkpoints import load_backbone, save_state_dict
from mmrev.measure.memory import held_memory, peak_memory
from mmrev.models import memory_plan
from mmrev.models.memory_plan import plan_memory

COEFFICIENTS = [(1.0, 0.0), (0.7, 0.3), (0.5, 0.5)]


@dataclass
class Case:
    """A backbone with stages of several links; settings beyond them."""

    build: Callable[..., nn.Module]
    deep: dict
    couplings: tuple[str, ...]


DEPTHS = [2, 4, 5, 3]
CASES = {
    "swin": Case(
        test_swin_transformer_v2.small,
        {
            "arch": {**test_swin_transformer_v2.SMALL, "depths": [1, 2, 3, 2]},
            "drop_path_rate": 0.3,
        },
        ("dual", "two-stream"),
    ),
    "swin-norms": Case(
        test_swin_transformer_v2.small,
        {
            "arch": {
                **test_swin_transformer_v2.SMALL,
                "extra_norm_every_n_blocks": 2,
            }
        },
        ("dual",),
    ),
    "swin-experts": Case(
        test_swin_transformer_v2.small,
        {
            "arch": {**test_swin_transformer_v2.TINY, "depths": [1, 1, 3, 2]},
            "moe": {"num_experts": 3, "dropout": 0.1},
            "drop_path_rate": 0.3,
        },
        ("dual",),
    ),
    "nfnet": Case(
        test_nfnet.small,
        {
            "arch": {**test_nfnet.SMALL, "depths": DEPTHS},
            "drop_path_rate": 0.3,
        },
        ("dual", "two-stream"),
    ),
    "reducenet": Case(
        lambda **settings: test_reducenet.small(0.4, **settings),
        {
            "arch": {**test_reducenet.SMALL, "depths": DEPTHS},
            "drop_path_rate": 0.3,
        },
        ("dual",),
    ),
}
EACH = pytest.mark.parametrize("name", CASES)
COUPLED = pytest.mark.parametrize(
    ("name", "coupling"),
    [(name, coupling) for name, case in CASES.items() for coupling in case.couplings],
)


def coupled(name, coupling="dual", coefficients=None, **settings):
    case = CASES[name]
    model = case.build(coupling=coupling, **{**case.deep, **settings})
    if coefficients is not None:
        model.coefficients.copy_(torch.tensor(coefficients))
    return model


def results(model, memory, dtype=None, size=(43, 36)):
    """Levels, gradients of images and parameters, buffers; of one training step."""
    model = copy.deepcopy(model).train()
    model.set_memory(memory)
    torch.manual_seed(3)
    image = torch.randn(2, 3, *size, requires_grad=True)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        levels = model(image)
    loss = sum(
        (i + 1) * level.float().square().mean() for i, level in enumerate(levels)
    )
    loss.backward()
    found = {f"level {i}": level for i, level in enumerate(levels)}
    found |= {"image": image.grad, "generator": torch.get_rng_state()}
    found |= {name: p.grad for name, p in model.named_parameters()}
    return found | dict(model.named_buffers())


def assert_equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        other = actual[name]
        assert (tensor is None) == (other is None), name
        assert tensor is None or torch.equal(tensor, other), name


@COUPLED
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_gradients_are_bit_equal(name, coupling, dtype):
    for coefficients in COEFFICIENTS if coupling == "dual" else [None]:
        model = coupled(name, coupling, coefficients)
        expected = results(model, "store", dtype)
        assert sum(tensor is not None for tensor in expected.values()) > 50
        for memory in ("recompute", "reverse"):
            assert_equal(results(model, memory, dtype), expected)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "memory",
    [
        "recompute",
        "reverse",
        ["reverse", "reverse", "store", "store"],
        ["reverse", "store", "reverse", "recompute"],
        ["recompute", "reverse", "reverse", "reverse"],
    ],
)
def test_gradients_of_revcol_are_bit_equal(memory, dtype):
    model = test_revcol.small(drop_path_rate=0.3, layer_scale_init_value=1.0)
    assert_equal(results(model, memory, dtype), results(model, "store", dtype))


@EACH
def test_dual_starts_as_the_ordinary_network(name, tmp_path):
    ordinary = CASES[name].build(**CASES[name].deep).eval()
    save_state_dict(ordinary.state_dict(), tmp_path / "weights.pth")
    model = coupled(name).eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    load_backbone(model, tmp_path / "weights.pth")
    image = torch.randn(2, 3, 43, 36)
    for level, expected in zip(model(image), ordinary(image), strict=True):
        assert torch.equal(level, expected)
    model.coefficients.copy_(torch.tensor([0.5, 0.5]))
    assert not torch.equal(model(image)[-1], expected)


@EACH
def test_coefficients_are_saved_and_never_ignored(name, tmp_path):
    path = tmp_path / "weights.pth"
    tuned = coupled(name, coefficients=(0.5, 0.5))
    save_state_dict(tuned.state_dict(), path)
    again = coupled(name)
    load_backbone(again, path)
    assert again.coefficients.tolist() == [0.5, 0.5]
    ordinary = CASES[name].build(**CASES[name].deep)
    with pytest.raises(ValueError, match=r"a, b = \(0.5, 0.5\).*Set coupling='dual'"):
        load_backbone(ordinary, path)
    with pytest.raises(ValueError, match="Set coupling='dual'"):
        ordinary.load_state_dict(tuned.state_dict())
    tuned.coefficients.copy_(torch.tensor([1.0, 0.0]))  # which an ordinary one is
    save_state_dict(tuned.state_dict(), path := tmp_path / "start.pth")
    load_backbone(ordinary, path)
    assert "coefficients" not in ordinary.state_dict()


def test_two_streams_do_not_take_ordinary_weights(tmp_path):
    path = tmp_path / "weights.pth"
    save_state_dict(CASES["nfnet"].build(**CASES["nfnet"].deep).state_dict(), path)
    with pytest.raises(ValueError, match=r"'two-stream'.*from scratch"):
        load_backbone(coupled("nfnet", "two-stream"), path)


@pytest.mark.parametrize("name", ["swin", "nfnet"])
def test_a_stage_of_two_streams_is_that_of_the_paper(name):
    """y1 = x1 + F(x2), y2 = x2 + G(y1), F and G in turn; then their mean."""
    model = coupled(name, "two-stream").double().eval()
    stage = 2
    x = torch.randn(1, model.channels[1], 8, 8, dtype=torch.float64)
    x = x.permute(0, 2, 3, 1) if model.channels_last else x
    actual = model.run_blocks(x, stage)
    for module in model.stages[stage]:
        if not model.links(module):
            x = module(x)
    links = [i for module in model.stages[stage] for i in model.links(module)]
    one, two = x, x
    for link in links:
        one, two = two, one + (link(two) - two)
    torch.testing.assert_close(actual, (one + two) / 2)


@EACH
def test_parts_of_stages(name):
    """A chain starts anew wherever a stage is entered."""
    model = coupled(name, coefficients=(0.5, 0.5)).eval()
    x = model.stem(torch.randn(1, 3, 64, 64))
    for stage, depth in enumerate(model.depths):
        assert torch.equal(model.run_blocks(x, stage, 0, 0), x)
        after = model.run_blocks(x, stage, 0, 2)
        rest = model.run_blocks(after, stage, 2, depth)
        x = model.run_blocks(x, stage)
        assert rest.shape == x.shape
        assert torch.equal(rest, x) == (depth <= 2)


@EACH
def test_reverse_keeps_less(name):
    """Of a deep stage, a fraction of what recomputing keeps."""
    deep = copy.deepcopy(CASES[name].deep["arch"])
    deep["depths"] = [16, 1, 1, 1]

    def held(memory):
        model = coupled(name, coefficients=(0.5, 0.5), arch=deep).train()
        model.set_memory(memory)
        image = torch.randn(1, 3, 64, 64)
        return held_memory(lambda: model(image))

    assert held("reverse") < 0.7 * held("recompute") < 0.2 * held("store")


def test_says_which_stages_are_too_short(monkeypatch):
    said = []
    monkeypatch.setattr(
        "mmrev.models.backbones.base.print_log", lambda text, **_: said.append(text)
    )
    model = test_nfnet.small(coupling="dual", memory="reverse")
    assert "nothing in stage 1, 2, 3, 4, whose chain has less than 3" in said.pop()
    assert model.memory_choices() == [["store", "recompute"]] * 4
    model = coupled("nfnet", memory="reverse")
    assert "in stage 1, 4, whose" in said.pop()
    reversible = ["store", "recompute", "reverse"]
    assert model.memory_choices()[1:3] == [reversible] * 2


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (test_vanillanet.small, {"memory": "reverse"}, "nothing can be inverted"),
        (test_nfnet.small, {"memory": "reverse"}, "needs coupling='dual' or 'two-st"),
        (test_nfnet.small, {"coupling": "triple"}, "None or 'dual' or 'two-stream', g"),
        (test_reducenet.small, {"coupling": "two-stream"}, "must be None or 'dual'"),
        (
            test_reducenet.small,
            {"coupling": "dual", **test_reducenet.CHAINED},
            "keep the size of a map, got chain='pre-pad'",
        ),
        (
            test_swin_transformer_v2.small,
            {**CASES["swin-norms"].deep, "coupling": "two-stream"},
            "extra_norm_every_n_blocks=2. Use coupling='dual'",
        ),
        (test_revcol.small, {"memory": ["store"] * 3}, r"4 of them.*got \['store'"),
        (test_revcol.small, {"memory": "auto"}, "go together, got 'auto' and None"),
        (test_revcol.small, {"memory_budget_mb": 5}, "got 'recompute' and 5"),
    ],
)
def test_refused_settings(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


def test_a_deployed_reducenet_stays_coupled():
    model = coupled("reducenet", coefficients=(0.5, 0.5)).eval()
    test_reducenet.set_fade(model, 0.0)
    image = torch.randn(1, 3, 43, 36)
    expected = model(image)
    model.switch_to_deploy()
    for level, before in zip(model(image), expected, strict=True):
        torch.testing.assert_close(level, before, rtol=1e-4, atol=1e-4)


def test_a_module_that_does_not_repeat_itself_is_an_error():
    class Fickle(nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    model = coupled("nfnet", memory="reverse").train()
    model.stages[2][3].conv4 = nn.Sequential(model.stages[2][3].conv4, Fickle())
    loss = sum(level.mean() for level in model(torch.randn(1, 3, 32, 32)))
    with pytest.raises(RuntimeError, match="NFBlock, module 3 of the 4 that were"):
        loss.backward()


class TestPlan:
    """Choosing modes by a budget."""

    SHAPE = (1, 3, 64, 64)

    @staticmethod
    def peak(model):
        image = torch.ones(TestPlan.SHAPE)

        def step():
            sum(level.mean() for level in model(image)).backward()

        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        step()
        return peak_memory(step) / 1e6

    def test_fits_and_leaves_the_backbone_as_it_is(self):
        model = test_revcol.small(memory="store").train()
        store = self.peak(model)
        weights = copy.deepcopy(model.state_dict())
        grads = {name: p.grad.clone() for name, p in model.named_parameters()}
        state = torch.get_rng_state()
        plan = plan_memory(model, self.SHAPE, 0.7 * store)
        assert plan.modes != ["store"] * 4
        assert plan.peak <= 0.7e6 * store
        assert torch.equal(torch.get_rng_state(), state)
        assert model.memory == ["store"] * 4
        for key, value in model.state_dict().items():
            assert torch.equal(value, weights[key]), key
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter.grad, grads[name]), name
        model.set_memory(plan.modes)
        assert self.peak(model) <= 0.7 * store

    @pytest.mark.parametrize("name", ["revcol", "swin", "vanillanet"])
    def test_does_no_more_work_than_it_must(self, name, monkeypatch):
        """With figures of which every plan's best is known."""
        mb = {"store": 8, "recompute": 3, "reverse": 1}
        trials = []

        def used(model):
            return sum(mb[mode] << stage for stage, mode in enumerate(model.memory))

        def peak(step, device):
            step()
            trials.append(model.memory)
            return 1e6 * (used(model) + 5)

        model = {
            "revcol": test_revcol.small,
            "swin": lambda: coupled("swin"),
            "vanillanet": test_vanillanet.small,
        }[name]().train()
        monkeypatch.setattr(memory_plan, "peak_memory", peak)
        monkeypatch.setattr(memory_plan, "held_memory", lambda *_: 1e6 * used(model))
        least = {"revcol": 15, "swin": 17, "vanillanet": 45}[name]
        assert plan_memory(model, self.SHAPE, 125).modes == ["store"] * 4
        assert len(trials) <= 3
        one = plan_memory(model, self.SHAPE, 124).modes
        assert sorted(one)[1:] == ["store"] * 3
        assert plan_memory(model, self.SHAPE, least + 5).peak == 1e6 * (least + 5)
        with pytest.raises(
            ValueError, match=rf"at least {least + 5} MB.*memory_budget_mb={least + 4}"
        ):
            plan_memory(model, self.SHAPE, least + 4)

    def test_is_made_for_the_first_batch_and_for_larger_ones(self, monkeypatch):
        shapes = []

        def planned(backbone, shape, budget_mb):
            shapes.append(tuple(shape))
            return memory_plan.MemoryPlan(["store"] * 4, 0, 0, 0)

        monkeypatch.setattr("mmrev.models.backbones.base.plan_memory", planned)
        model = test_revcol.small(memory="auto", memory_budget_mb=1000).train()
        assert model.memory == ["recompute"] * 4
        with torch.no_grad():
            model(torch.randn(self.SHAPE))
        model.eval()(torch.randn(self.SHAPE))
        assert not shapes
        model.train()
        for size in (16, 16, 8, 32):
            sum(level.mean() for level in model(torch.randn(1, 3, size, size)))
        assert shapes == [(1, 3, 16, 16), (1, 3, 32, 32)]
        assert model.memory == ["store"] * 4

    def test_what_does_not_fit_the_device_is_left_out(self, monkeypatch):
        def full(call, device):
            raise torch.OutOfMemoryError

        monkeypatch.setattr(memory_plan, "held_memory", full)
        model = test_revcol.small().train()
        with pytest.raises(ValueError, match="at least"):
            plan_memory(model, self.SHAPE, 0.01)
