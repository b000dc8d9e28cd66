"""Receptive fields of networks whose fields are known."""

import pytest
import torch
from torch import nn

from mmrev.measure.receptive_field import area, contributions


def field(network, *size, seed=0):
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    image.requires_grad_()
    signs = torch.Generator().manual_seed(seed)
    return contributions(network(image), image, signs)


def test_a_chain_of_convolutions_sees_what_they_add_up_to():
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 3, 1, 1))
    found = field(network, 16, 12)
    # The centre is (4, 3) of 8 x 6; it reads 3 x 3 of stride 2, of 3 x 3 each.
    expected = torch.zeros(16, 12, dtype=torch.bool)
    expected[5:12, 3:10] = True
    assert torch.equal(found > 0, expected)
    assert area(found, 1.0) == 49 / 192


def test_channels_that_cancel_out_are_seen():
    class Normalised(nn.Module):
        def forward(self, x):
            return nn.functional.layer_norm(x.movedim(1, -1), (3,)).movedim(-1, 1)

    # The sum of its channels is 0 for every image, and so are the sum's gradients.
    found = field(Normalised(), 5, 5, seed=3)
    assert found[2, 2] > 1e-2 and found.count_nonzero() == 1


def test_a_graph_serves_several_features():
    image = torch.randn(1, 3, 8, 8).requires_grad_()
    one = nn.Conv2d(3, 2, 1)(image)
    other = nn.Conv2d(2, 2, 3, padding=1)(one)
    signs = torch.Generator()
    first, second, again = (
        contributions(feature, image, signs.manual_seed(0))
        for feature in (one, other, one)
    )
    assert torch.equal(first, again)
    assert (first.count_nonzero(), second.count_nonzero()) == (1, 9)


def test_what_does_not_read_the_image_sees_nothing():
    image = torch.zeros(1, 3, 4, 4).requires_grad_()
    for feature in (torch.ones(1, 2, 2, 2), nn.Parameter(torch.ones(1, 2, 2, 2))):
        found = contributions(feature, image, torch.Generator())
        assert not found.any() and area(found, 0.5) is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([[1.0, 1], [1, 1]], 0.5, 0.5),
        ([[1.0, 1], [1, 1]], 0.51, 0.75),
        ([[0.0, 8], [1, 1]], 0.5, 0.25),
        ([[0.0, 8], [1, 1]], 0.95, 0.75),
        ([[0.0, 8], [1, 1]], 0.0, 0.25),
    ],
)
def test_areas(values, share, expected):
    assert area(torch.tensor(values), share) == expected
