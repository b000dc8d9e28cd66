"""Masks for masked-image pretraining, for mmpretrain.

Paper: SimMIM, arXiv 2111.09886, sections 3.2 and 4.1.2.
"""

from functools import cached_property

import numpy as np
from mmpretrain.datasets.transforms import SimMIMMaskGenerator as _SimMIMMaskGenerator
from scipy.ndimage import distance_transform_edt

from mmrev.registry import TRANSFORMS

# Of which AvgDist is the mean: for SimMIM's masks its standard error is then 2 %.
NUM_MASKS = 100


@TRANSFORMS.register_module()
class SimMIMMaskGenerator(_SimMIMMaskGenerator):
    """mmpretrain's generator, which says what is wrong, and how far it hides pixels.

    Args:
        input_size: side of the image, pixels.
        mask_patch_size: side of what is masked as one, pixels.
        model_patch_size: pixels of a cell of the mask, as the stem's stride.
        mask_ratio: share of the patches that is masked, rounded up.

    Raises:
        ValueError: if a size does not divide the one before, or the ratio leaves no
            patch visible or none masked.
    """

    def __init__(
        self,
        input_size: int = 192,
        mask_patch_size: int = 32,
        model_patch_size: int = 4,
        mask_ratio: float = 0.6,
    ):
        _check_divides("mask_patch_size", mask_patch_size, "input_size", input_size)
        _check_divides(
            "model_patch_size", model_patch_size, "mask_patch_size", mask_patch_size
        )
        if not 0 < mask_ratio < 1:
            raise ValueError(
                "SimMIMMaskGenerator: mask_ratio must lie between 0 and 1, got "
                f"{mask_ratio}. SimMIM's is 0.6."
            )
        super().__init__(input_size, mask_patch_size, model_patch_size, mask_ratio)
        if self.mask_count == self.token_count:
            raise ValueError(
                f"SimMIMMaskGenerator: mask_ratio={mask_ratio} masks all "
                f"{self.token_count} patches. Choose a smaller ratio, or a smaller "
                f"mask_patch_size than {mask_patch_size}."
            )

    @cached_property
    def avg_dist(self) -> float:
        """AvgDist: how far a masked pixel is from the nearest visible one, in pixels.

        The mean, by Euclid's distance, over masks that are the same in every run.
        """
        rng = np.random.default_rng(0)
        return float(np.mean([self._distance(rng) for _ in range(NUM_MASKS)]))

    def _distance(self, rng: np.random.Generator) -> float:
        """Of one mask."""
        masked = np.zeros(self.token_count, bool)
        masked[rng.permutation(self.token_count)[: self.mask_count]] = True
        masked = masked.reshape(self.rand_size, self.rand_size)
        pixels = masked.repeat(self.mask_patch_size, 0).repeat(self.mask_patch_size, 1)
        return distance_transform_edt(pixels)[pixels].mean()


def _check_divides(name: str, part: int, of: str, whole: int) -> None:
    if part < 1 or whole < 1 or whole % part:
        fitting = [str(size) for size in range(1, whole + 1) if whole % size == 0]
        choice = f"Choose one of {', '.join(fitting)}." if fitting else "Choose others."
        raise ValueError(
            f"SimMIMMaskGenerator: {name} must divide {of}={whole}, got {part}. "
            f"{choice}"
        )
