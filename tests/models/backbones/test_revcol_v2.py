"""RevColV2: sizes, directions, what is read, memory modes inside the model."""

import pytest
import torch
from tolerances import assert_close

from mmrev.measure.memory import held_memory
from mmrev.models.backbones.revcol_v2 import ARCHITECTURES, RevColV2
from mmrev.reversible import effective_gains

SMALL = {"channels": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "num_columns": 3}

# Ours; of B the paper, arXiv 2309.01005, prints 88 M in table 3.
PARAMETERS = {"base": 88_159_104, "large": 326_268_672}


def small(**settings):
    torch.manual_seed(0)
    # Layer scale 1, or the blocks would hardly count.
    settings = {"arch": SMALL, "layer_scale_init_value": 1.0, **settings}
    model = RevColV2(**settings)
    model.init_weights()
    return model


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_parameters(arch):
    with torch.device("meta"):
        model = RevColV2(arch)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[arch]


def test_base_has_the_printed_parameters():
    assert round(PARAMETERS["base"] / 1e6) == 88


def test_columns_are_those_of_the_formulas():
    """Up: own finer level and coarser one before; down: the other way round."""
    model, image = small().eval(), torch.randn(1, 3, 64, 96)
    stem = model.stem(image)
    states = None
    for column in model.bottom_up:
        gains = effective_gains(list(column.gains))
        new = []
        for index, level in enumerate(column.levels):
            x = level.down(new[-1]) if index else stem
            if states and index < 3:
                x = x + enlarged(level, states[index + 1])
            new.append(level.blocks(x))
            if states:
                new[-1] = new[-1] + gains[index] * states[index]
        states = new
    for column in model.top_down:
        gains = effective_gains(list(column.gains))
        new = [None] * 4
        for index, level, gain in zip((3, 2, 1, 0), column.levels, gains, strict=True):
            x = torch.zeros_like(states[index])
            if index < 3:
                x = x + enlarged(level, new[index + 1])
            if index > 0:
                x = x + level.down(states[index - 1])
            new[index] = level.blocks(x) + gain * states[index]
        states = new
    for level, expected in zip(model(image), states, strict=True):
        assert_close(level, expected)


def enlarged(level, coarse):
    (up,) = level.ups
    coarse = up(coarse.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    return coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_padding_is_at_the_end():
    """A larger image of zeros around the same content gives the same features there."""
    model, image = small().eval(), torch.randn(1, 3, 61, 70)
    padded = torch.nn.functional.pad(image, (0, 26, 0, 3))
    for level, expected in zip(model(image), model(padded), strict=True):
        assert level.shape != expected.shape or level.shape[-1] == 3
        assert_close(level, expected[..., : level.shape[-2], : level.shape[-1]])


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"frozen_stages": 2}, {"frozen_stages": 4}, {"out_indices": (2, 3)}],
    ids=["whole", "frozen up", "frozen down", "two levels"],
)
def test_memory_modes_are_equal(settings, autocast):
    image = torch.randn(2, 3, 61, 70)

    def gradients(memory):
        model = small(
            drop_path_rate=0.3, out_norm="layer_norm", memory=memory, **settings
        )
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            levels = model(image)
        sum((level.float() ** 2).mean() for level in levels).backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        return [p.grad for p in model.parameters() if p.requires_grad]

    expected = gradients("store")
    mixed = ["reverse", "store", "reverse", "recompute"]
    for memory in ("recompute", "reverse", mixed, mixed[::-1]):
        for grad, other in zip(gradients(memory), expected, strict=True):
            assert torch.equal(grad, other)


def test_reverse_keeps_less():
    arch = {**SMALL, "num_columns": 6}
    image = torch.randn(1, 3, 64, 64)

    def held(memory):
        model = small(arch=arch, memory=memory).train()
        return held_memory(lambda: model(image))

    assert held("reverse") < 0.5 * held("recompute") < 0.2 * held("store")


@pytest.mark.parametrize(
    ("out_indices", "unread"),
    [((0, 3), [0, 0, 0]), ((1, 2, 3), [0, 0, 1]), ((3,), [1, 2, 3])],
)
def test_what_no_output_reads_is_frozen(out_indices, unread):
    model = small(out_indices=out_indices)
    sum(level.mean() for level in model(torch.randn(1, 3, 32, 32))).backward()
    for column, count in zip(model.top_down, unread, strict=True):
        for place, (level, gain) in enumerate(
            zip(column.levels, column.gains, strict=True)
        ):
            read = place < 4 - count
            assert gain.requires_grad == read
            for parameter in level.parameters():
                assert parameter.requires_grad == read
                assert (parameter.grad is not None) == read


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"arch": "giant"}, "RevColV2: arch must be one of base, large .*'giant'"),
        ({"arch": {"channels": [1] * 4}}, "has the keys channels, depths, num_columns"),
        ({"arch": {**SMALL, "depths": [1, 1]}}, "RevColV2: arch depths must be 4"),
        ({"arch": {**SMALL, "num_columns": 0}}, "num_columns must be >= 1, got 0"),
    ],
)
def test_unknown_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        RevColV2(**{"arch": SMALL, **settings})
