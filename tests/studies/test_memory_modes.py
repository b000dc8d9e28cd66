"""The study measures what it says; the memory modes save what they claim to.

Bytes are exact, so this is a test.
"""

import pytest
import torch
from torch import nn

from mmrev.measure.memory import peak_memory
from mmrev.models.backbones import (
    NFNet,
    ReduceNet,
    RevCol,
    SwinTransformerV2,
    VanillaNet,
)
from mmrev.studies.memory_modes import figures, networks, plot
from mmrev.studies.memory_modes.networks import STOCK, Case, Family

MEGABYTE = 2**20
CHANNELS = [8, 16, 24, 32]
TOYS = {
    "revcol": Family(
        RevCol,
        {"toy": {"channels": CHANNELS, "depths": [1] * 4, "num_columns": 6}},
        usual=("toy",),
        settings={"layer_scale_init_value": 1.0},
    ),
    "swinv2": Family(
        SwinTransformerV2,
        {"toy": {"embed_dims": 8, "depths": [1, 1, 3, 1], "num_heads": [1] * 4}},
        usual=("toy",),
        settings={"window_size": 4},
    ),
    "nfnet": Family(
        NFNet,
        {"toy": {"channels": CHANNELS, "depths": [1, 1, 5, 1], "group_width": 4}},
        usual=("toy",),
        settings={"skip_gain_init_value": 1.0},
    ),
    "reducenet": Family(
        ReduceNet,
        {"toy": {"channels": CHANNELS, "depths": [1, 1, 5, 1], "expansion": 2}},
        usual=("toy",),
    ),
    "vanillanet": Family(
        VanillaNet,
        {"toy": {"channels": [8, *CHANNELS], "strides": [1, 2, 2, 2]}},
        usual=("toy",),
    ),
}
CASES = {
    f"{name}-{coupling}": Case(family, "toy", coupling, size=64)
    for name, family in TOYS.items()
    for coupling in family.couplings
}
REVERSIBLE = {name: case for name, case in CASES.items() if "reverse" in case.modes}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_peak_memory_sees_what_is_freed_again():
    def step():
        first = torch.ones(3 * MEGABYTE // 4)
        del first
        return torch.ones(2 * MEGABYTE // 4)

    assert peak_memory(step) == pytest.approx(3 * MEGABYTE, rel=0.01)


def test_every_family_is_there_in_its_usual_sizes():
    classes = {family.backbone for family in networks.FAMILIES.values()}
    assert classes == {family.backbone for family in TOYS.values()}
    for family in networks.FAMILIES.values():
        assert set(family.usual) <= set(family.sizes)


@each_case
def test_gradients_are_compared_and_equal(case):
    found = figures.differences(case, case.build())
    assert list(found) == [figures.AGAIN, *case.modes[1:]]
    for one in found.values():
        assert one.tensors > 20
        assert (one.unequal, one.error) == (0, 0.0)


def test_what_differs_is_counted():
    one = {"a": torch.ones(3), "b": torch.ones(2), "c": torch.ones(4)}
    found = {"a": torch.ones(3), "b": torch.tensor([1.0, 3.0]), "d": torch.ones(1)}
    difference = figures._difference(found, one)
    assert difference == figures.Difference(3, 3, pytest.approx((4 / 9) ** 0.5))


@each_case
def test_stock_checkpoint_runs_every_part_again(case):
    model, calls = case.build(), []
    parts = model.columns if case.is_columns else model.stages
    for leaf in parts.modules():
        if isinstance(leaf, nn.Conv2d | nn.Linear):
            leaf.register_forward_pre_hook(lambda *_: calls.append(1))
    counts = []
    for mode in ("store", STOCK, "recompute", "store"):
        calls.clear()
        figures._gradients(case, model, mode)
        counts.append(len(calls))
    assert counts == [counts[0], counts[2], 2 * counts[0], counts[0]]


@pytest.mark.parametrize(
    ("name", "depths"), [("revcol-None", (3, 5)), ("swinv2-dual", (4, 7))]
)
def test_growth_over_depth(name, depths):
    growth = figures.growth(CASES[name], depths, repeats=1)
    for depth in depths:
        store, stock, recompute, reverse = (
            costs[depth].peak for costs in growth.costs.values()
        )
        assert store > 1.5 * stock >= 1.5 * recompute > 1.5 * reverse
        assert all(min(costs[depth].rounds) > 0 for costs in growth.costs.values())
    states = {mode: growth.slopes(mode)[depths[1]] for mode in growth.costs}
    assert states["store"] > 5 * growth.states
    assert 0.95 < states["recompute"] / growth.states < 1.5
    assert 0 < states["reverse"] / growth.states < 0.3
    page = plot.draw_html([growth, growth]).decode()
    assert page.count(f"{CASES[name].name}; 64 px, fp32, cpu") == 2


@each_case
def test_depth_is_what_was_asked_for(case):
    counts = [len([*case.at(depth).build().modules()]) for depth in (2, 3, 7)]
    assert counts[2] - counts[1] == 4 * (counts[1] - counts[0]) > 0
    levels = case.at(5).build()(case.image())
    assert [level.shape[-1] for level in levels] == [16, 8, 4, 2]


@pytest.mark.parametrize("name", ["revcol-None", "swinv2-dual", "nfnet-dual"])
def test_bits_fall_with_the_gain(name):
    case = CASES[name]
    found = [figures.bits(case, case.build(), gain) for gain in (1e-7, 0.1, 0.9)]
    assert found[0].correction > found[1].correction > found[2].correction > 2
    if not case.is_columns:  # whose gains have a floor
        assert (found[0].kept, found[0].taken) == (1.0, 1.0)
    assert found[2].kept == 0
    assert found[2].taken == pytest.approx(found[2].correction / 32)


@pytest.mark.parametrize("case", REVERSIBLE.values(), ids=REVERSIBLE)
@torch.no_grad()
def test_bits_are_those_of_the_network(case):
    model, meter = case.build(), figures.Meter()
    level = figures.last_level(case, model, meter)
    assert torch.equal(level, model(case.image())[-1])
    if case.is_columns:
        assert len(meter.sizes) == 4 * 5
    else:  # the last two of a chain are kept, and its first is none of its own
        counts = [len(model.chain(stage)) for stage in model.stages]
        assert len(meter.sizes) == sum(max(count - 2, 0) for count in counts)


def test_a_chain_without_states_to_rebuild_has_no_bits():
    case = CASES["reducenet-dual"].at(2)
    assert figures.bits(case, case.build(), 0.5) is None


@each_case
def test_why_there_is_no_reversal(case):
    remark = case.remark(case.build())
    if case.is_columns:
        assert remark is None
    elif "reverse" not in case.modes:
        assert remark.startswith("no reverse")
    else:
        assert remark == "reverse is recompute in stage 1, 2, 4: too few blocks"
