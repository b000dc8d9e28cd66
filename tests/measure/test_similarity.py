"""CKA against its definition, and what it must not depend on."""

import math
from itertools import permutations

import pytest
import torch

from mmrev.measure import similarity
from mmrev.measure.similarity import Alignment, gram, hsic


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def related(count=24, seed=0):
    """Two representations of images that have something in common."""
    one, noise = drawn(count, 5, seed=seed), drawn(count, 7, seed=seed + 1000)
    return one, torch.cat([one @ drawn(5, 4, seed=-1), noise], dim=1)


def cka(one, other, batch=None):
    alignment = Alignment()
    for rows, others in zip(
        one.split(batch or len(one)), other.split(batch or len(one)), strict=True
    ):
        alignment.add(gram(rows), gram(others))
    return alignment


def of_all_quadruples(one, other):
    """HSIC_1 as its definition has it: the mean over all four unlike images."""
    k, m = one @ one.mT, other @ other.mT
    found = [
        k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q])
        for i, j, q, r in permutations(range(len(k)), 4)
    ]
    return float(torch.stack(found).mean())


def test_a_batch_is_the_mean_over_all_quadruples():
    one, other = related(7)
    pairs = {"xy": (one, other), "xx": (one, one), "yy": (other, other)}
    exact = {name: of_all_quadruples(*pair) for name, pair in pairs.items()}
    for name, (x, y) in pairs.items():
        assert hsic(gram(x), gram(y)) == pytest.approx(exact[name], rel=1e-10)
    expected = exact["xy"] / math.sqrt(exact["xx"] * exact["yy"])
    assert cka(one, other).value == pytest.approx(expected, rel=1e-10)


def test_rotation_scale_and_shift_change_nothing():
    one, other = related()
    rotation, _ = torch.linalg.qr(drawn(5, 5))
    expected = cka(one, other).value
    assert 0.1 < expected < 0.9
    for changed in (one @ rotation, 1e-6 * one, one + 100 * drawn(5)):
        assert cka(changed, other).value == pytest.approx(expected, rel=1e-9)
    # Stretched along one axis it is another representation.
    assert (
        abs(cka(one * torch.tensor([9.0, 1, 1, 1, 1]), other).value - expected) > 0.01
    )


def test_equal_is_one_and_independent_nothing():
    one, _ = related()
    assert cka(one, -3 * one).value == pytest.approx(1)
    # With many more features than images the biased estimator gives almost 1 here.
    x, y = drawn(160, 3000), drawn(160, 3000, seed=1)
    found = cka(x, y, batch=16)
    assert abs(found.value) < 0.15 and abs(found.value) < 4 * found.error


def test_batches_are_summed_before_the_ratio():
    one, other = related(32)
    parts = [
        [hsic(gram(a), gram(b)) for a, b in ((x, y), (x, x), (y, y))]
        for x, y in zip(one.split(8), other.split(8), strict=True)
    ]
    across, left, right = (sum(column) for column in zip(*parts, strict=True))
    assert cka(one, other, batch=8).value == pytest.approx(
        across / math.sqrt(left * right), rel=1e-12
    )


def test_the_size_of_batches_is_a_matter_of_noise():
    one, other = related(1024)
    whole = cka(one, other).value
    for batch in (8, 32, 128):
        found = cka(one, other, batch)
        assert found.count == 1024 // batch
        assert abs(found.value - whole) < 4 * found.error < 0.1


def test_error_is_the_spread_of_repetitions():
    found = [cka(*related(128, seed), batch=16) for seed in range(40)]
    values = torch.tensor([one.value for one in found])
    errors = torch.tensor([one.error for one in found])
    assert 0.7 < errors.mean() / values.std() < 1.4
    assert cka(*related()).error is None


@pytest.mark.parametrize("value", [0.0, 1.0, 1234.567])
def test_what_is_constant_has_none(value):
    images, _ = related()
    constant = torch.full((24, 50), value)
    assert not gram(constant).any()
    noise = 1 + 1e-7 * drawn(24, 50).float()
    for features in (constant, constant * noise):
        found = cka(features, images, batch=8)
        assert found.value is None and found.error is None
    assert Alignment().value is None


def test_little_that_varies_is_not_constant():
    images, other = related()
    small = (1000 + other.float()).double()
    assert cka(small.float(), images).value == pytest.approx(
        cka(small, images).value, rel=1e-6
    )


def test_what_is_not_finite_has_none():
    images, other = related()
    other[3, 2] = torch.inf
    assert cka(other, images).value is None


def test_parts_of_features_are_the_whole(monkeypatch):
    values = drawn(6, 3, 5, 7)
    whole = gram(values)
    monkeypatch.setattr(similarity, "_PART", 11)
    torch.testing.assert_close(gram(values), whole)
    rows = values.flatten(1) - values.flatten(1).mean(0)
    torch.testing.assert_close(whole, rows @ rows.mT)


def test_three_images_are_too_few():
    products = gram(drawn(3, 5))
    with pytest.raises(ValueError, match=r"expected 4 images or more .* got 3\. Take"):
        hsic(products, products)
