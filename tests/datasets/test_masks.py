"""Masks of SimMIM, and how far they hide pixels."""

import numpy as np
import pytest
from mmpretrain.datasets.transforms import SimMIMMaskGenerator as Theirs

from mmrev.datasets.masks import SimMIMMaskGenerator
from mmrev.registry import TRANSFORMS


def test_masks_are_mmpretrains():
    settings = dict(input_size=96, mask_patch_size=16, mask_ratio=0.5)
    ours = TRANSFORMS.build(dict(type="mmrev.SimMIMMaskGenerator", **settings))
    masks = []
    for generator in (Theirs(**settings), ours):
        np.random.seed(0)
        masks.append(generator.transform({})["mask"])
    assert np.array_equal(*masks)
    assert masks[0].shape == (24, 24) and masks[0].mean() == 0.5


def test_avg_dist_of_one_patch_by_hand():
    """Of 2 x 2 patches 1 is masked: pixels k away from the nearer visible one."""
    side = 4
    generator = SimMIMMaskGenerator(2 * side, side, side, mask_ratio=0.25)
    ends = np.arange(1, side + 1)
    expected = np.minimum(ends[:, None], ends[None]).mean()
    assert generator.avg_dist == pytest.approx(expected)


def test_avg_dist_by_brute_force():
    generator = SimMIMMaskGenerator(24, 8, 4, mask_ratio=0.6)
    rng = np.random.default_rng(1)
    distance = generator._distance(np.random.default_rng(1))
    masked = np.zeros(9, bool)
    masked[rng.permutation(9)[:6]] = True
    pixels = np.kron(masked.reshape(3, 3), np.ones((8, 8))).astype(bool)
    hidden, seen = np.argwhere(pixels), np.argwhere(~pixels)
    all_pairs = np.linalg.norm(hidden[:, None] - seen[None], axis=-1)
    assert distance == pytest.approx(all_pairs.min(1).mean())


def test_avg_dist_of_simmim_is_where_the_paper_wants_it():
    """arXiv 2111.09886, section 4.1.2: accuracy is highest from 10 to 20 or so."""
    found = SimMIMMaskGenerator().avg_dist
    assert 10 < found < 20
    assert SimMIMMaskGenerator(192, 4).avg_dist < 10
    assert SimMIMMaskGenerator(192, 64).avg_dist > 20
    np.random.seed(1)
    assert SimMIMMaskGenerator().avg_dist == found


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(input_size=100),
            "mask_patch_size must divide input_size=100, got 32. Choose one of 1, 2, 4",
        ),
        (
            dict(model_patch_size=5),
            "model_patch_size must divide mask_patch_size=32, got 5. Choose one of 1",
        ),
        (dict(mask_patch_size=0), "must divide input_size=192, got 0"),
        (dict(input_size=-32), "must divide input_size=-32, got 32. Choose others"),
        (dict(mask_ratio=1.0), "mask_ratio must lie between 0 and 1, got 1.0"),
        (dict(mask_ratio=0.0), "between 0 and 1, got 0.0"),
        (dict(mask_ratio=float("nan")), "between 0 and 1, got nan"),
        (dict(mask_patch_size=192), "mask_ratio=0.6 masks all 1 patches.*than 192"),
        (dict(mask_patch_size=64, mask_ratio=0.9), "masks all 9 patches"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=f"SimMIMMaskGenerator: .*{message}"):
        SimMIMMaskGenerator(**settings)
