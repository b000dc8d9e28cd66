"""RevCol's reference computes what our RevCol computes."""

import pytest
import torch
from tolerances import assert_close

from mmrev.models.backbones import NFNet, RevCol
from mmrev.studies.benchmark.plain import PlainRevCol
from mmrev.studies.memory_modes.networks import awake

ARCH = {"channels": [8, 16, 24, 32], "depths": [1, 2, 1, 1], "num_columns": 3}


def built(**settings):
    torch.manual_seed(0)
    model = RevCol({**ARCH, **settings.pop("arch", {})}, memory="store", **settings)
    model.init_weights()
    awake(model)
    with torch.no_grad():  # below the floor, of both signs
        model.columns[1].gains[2][0, :2, 0, 0] = torch.tensor([1e-5, -1e-5])
    return model.double()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kernel_size": 5, "out_norm": "layer_norm", "out_indices": (1, 3)},
        {"arch": {"top_to_bottom": True}},
    ],
)
def test_outputs_and_gradients_are_equal(settings):
    model = built(**settings)
    plain = PlainRevCol(model).double()
    image = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    found = []
    for one in (model, plain):
        levels = one(image)
        sum(level.square().mean() for level in levels).backward()
        gradients = {n: p.grad for n, p in one.named_parameters() if p.requires_grad}
        found.append((levels, gradients))
    (levels, gradients), (others, theirs) = found
    for level, other in zip(levels, others, strict=True):
        assert_close(level, other)
    for name, gradient in gradients.items():
        assert_close(gradient, theirs[name])


def test_weights_are_copies():
    model = built()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = PlainRevCol(model).double()
    plain(torch.randn(1, 3, 32, 32, dtype=torch.float64))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_it_cannot_be():
    arch = {"channels": [8, 16, 24, 32], "depths": [1] * 4, "group_width": 4}
    with pytest.raises(
        ValueError, match=r"plain: expected RevCol, .* got NFNet\. Take"
    ):
        PlainRevCol(NFNet(arch))
    with pytest.raises(ValueError, match="plain: expected drop_path_rate=0, got more"):
        PlainRevCol(built(drop_path_rate=0.1))
    with pytest.raises(ValueError, match=r"multiples of 32, .* got 32x40\.$"):
        PlainRevCol(built()).double()(torch.ones(1, 3, 32, 40, dtype=torch.float64))
