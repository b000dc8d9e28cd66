"""Training a stitched backbone: how stitches start, and which one takes each step.

Papers: arXiv 2302.06586, sections 3.2 (least squares) and 3.3 (uniform choice);
SN-Netv2, arXiv 2307.00154, section 3.4 (choice by operations). Deviations: the choice
depends on seed and iteration alone, so that a resumed run goes on as the uninterrupted
one; all processes take the same stitch, and none needs ``find_unused_parameters``.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.optim import Optimizer

from mmrev.datasets.batches import seeded
from mmrev.models.stitching import (
    StitchedBackbone,
    find_stitched,
    fit_stitches,
    refine_stitches,
)
from mmrev.models.stitching.counts import stitch_flops
from mmrev.registry import HOOKS

__all__ = ["StitchFitHook", "StitchSamplerHook", "flops_bins"]


@HOOKS.register_module()
class StitchFitHook(Hook):
    """Sets the stitches by least squares on training images, before training starts.

    A run that resumes, or starts from a checkpoint, keeps the stitches it has. The
    processes of a distributed run share the images.

    Args:
        num_images: images, evenly spread over the training set.
        ridge: of `fit_stitches`.
        tokens: of `fit_stitches`.
        seed: of the augmentations and positions.
        later_steps: steps of `refine_stitches` that follow, an image of each process
            in each; 0 leaves it at least squares.

    Raises:
        ValueError: on a setting outside its range.
    """

    # Before any hook that copies weights, as EMA's.
    priority = "VERY_HIGH"

    def __init__(
        self,
        num_images: int = 100,
        ridge: float = 1e-4,
        tokens: int = 256,
        seed: int = 0,
        later_steps: int = 0,
    ):
        if num_images < 1:
            raise ValueError(
                f"StitchFitHook: num_images must be >= 1, got {num_images}."
            )
        if later_steps < 0:
            raise ValueError(
                f"StitchFitHook: later_steps must be >= 0, got {later_steps}. Set 0 "
                "for least squares alone."
            )
        self.num_images = num_images
        self.later_steps = later_steps
        self.settings = {"ridge": ridge, "tokens": tokens, "seed": seed}
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Fit, and log how well."""
        if runner.iter > 0 or runner._load_from:
            return
        backbone = find_stitched(runner.model)
        images = _Images(runner, self.num_images, self.seed)
        scores = fit_stitches(backbone, images, **self.settings)
        lines = [f"{name}: {score:.3f}" for name, score in scores.items()]
        runner.logger.info("\n".join(["R2 of the stitches' least squares:", *lines]))
        if not self.later_steps:
            return
        errors = refine_stitches(backbone, images, self.later_steps)
        lines = [
            f"{name}: {before:.3f} -> {after:.3f}"
            for name, (before, after) in errors.items()
        ]
        runner.logger.info("\n".join(["Error of the later levels:", *lines]))


class _Images:
    """This process's share of some training images, the same each time."""

    def __init__(self, runner: Runner, count: int, seed: int):
        self.model = runner.model
        if is_model_wrapper(self.model):
            self.model = self.model.module
        self.loader = runner.train_dataloader
        last = len(self.loader.dataset) - 1
        indices = np.linspace(0, last, min(count, last + 1)).astype(int)
        self.indices = indices[get_rank() :: get_world_size()]
        self.seed = seed

    def __iter__(self) -> Iterator[Tensor]:
        for index in map(int, self.indices):
            with seeded(self.seed + index):
                batch = self.loader.collate_fn([self.loader.dataset[index]])
                inputs = self.model.data_preprocessor(batch, False)["inputs"]
            yield inputs


@HOOKS.register_module()
class StitchSamplerHook(Hook):
    """Chooses a stitch for every training step, and the largest anchor for validation.

    Parameters that no stitch since the last update used keep their values: neither
    momentum nor weight decay moves them, in one process as in many.

    Args:
        strategy: 'uniform', every stitch is as likely; 'flops', every bin of
            operations is, and in a bin every stitch.
        bins: of 'flops', of equal width from the cheapest stitch to the dearest.
        image_size: of 'flops', height and width to count at, pixels.
        anchors_share: probability that an anchor alone is taken, whatever the strategy;
            None leaves that to the strategy.
        stitches: ids to choose from; None takes all.
        seed: of the choice.

    Raises:
        ValueError: on a setting outside its range.
    """

    def __init__(
        self,
        strategy: str = "uniform",
        bins: int = 8,
        image_size: int = 224,
        anchors_share: float | None = None,
        stitches: Sequence[int] | None = None,
        seed: int = 0,
    ):
        if strategy not in ("uniform", "flops"):
            raise ValueError(
                "StitchSamplerHook: strategy must be 'uniform' or 'flops', got "
                f"{strategy!r}."
            )
        if bins < 1:
            raise ValueError(f"StitchSamplerHook: bins must be >= 1, got {bins}.")
        if anchors_share is not None and not 0 <= anchors_share <= 1:
            raise ValueError(
                f"StitchSamplerHook: anchors_share must lie in 0..1, got "
                f"{anchors_share}."
            )
        self.strategy = strategy
        self.bins = bins
        self.image_size = image_size
        self.anchors_share = anchors_share
        self.stitches = stitches
        self.seed = seed

    def before_train(self, runner: Runner) -> None:
        """Find the backbone, weigh its stitches and watch the optimizer."""
        self._backbone = find_stitched(runner.model)
        self._probabilities = self.probabilities(self._backbone)
        # Of a resumed run: what the batch that is accumulated has used so far.
        behind = runner.iter % runner.optim_wrapper._accumulative_counts
        steps = range(runner.iter - behind, runner.iter)
        self._pending = set(map(self._choose, steps))
        self._used: dict[int, set[int]] = {}
        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(
            self._forget_unused
        )

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Choose."""
        chosen = self._choose(runner.iter)
        self._pending.add(chosen)
        self._backbone.set_stitch(chosen)

    def before_val(self, runner: Runner) -> None:
        """Validate the largest anchor."""
        backbone = find_stitched(runner.model)
        backbone.set_stitch(len(backbone.anchors) - 1)

    def after_train(self, runner: Runner) -> None:
        """Leave the largest anchor."""
        self._handle.remove()
        self.before_val(runner)

    def probabilities(self, backbone: StitchedBackbone) -> np.ndarray:
        """Of every stitch of a backbone, (number of stitches,).

        Raises:
            ValueError: if `stitches` names one that there is not, or `anchors_share`
                leaves nothing to choose from.
        """
        count, anchors = len(backbone.routes), len(backbone.anchors)
        ids = sorted(
            set(backbone.stitch_ids if self.stitches is None else self.stitches)
        )
        if not ids or ids[0] < 0 or ids[-1] >= count:
            raise ValueError(
                f"StitchSamplerHook: stitches must be ids of 0..{count - 1}, got {ids}."
            )
        groups = [ids]
        if self.strategy == "flops":
            groups = flops_bins(backbone, ids, self.bins, self.image_size)
        weights = np.zeros(count)
        for group in groups:
            weights[group] = 1 / len(groups) / len(group)
        if self.anchors_share is None:
            return weights
        parts = weights[:anchors], weights[anchors:]
        for part, share in zip(
            parts, (self.anchors_share, 1 - self.anchors_share), strict=True
        ):
            if share > 0 and not part.any():
                raise ValueError(
                    f"StitchSamplerHook: anchors_share={self.anchors_share} needs "
                    f"anchors and others to choose from, got stitches {ids}."
                )
            part *= share / max(part.sum(), 1e-12)
        return weights

    def _choose(self, iteration: int) -> int:
        entropy = np.random.SeedSequence([self.seed, 0, iteration])
        generator = np.random.default_rng(entropy)
        return int(generator.choice(len(self._probabilities), p=self._probabilities))

    def _forget_unused(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        for stitch in self._pending - set(self._used):
            parameters = self._backbone.parameters_of(stitch)
            self._used[stitch] = {id(parameter) for parameter in parameters}
        used = set().union(*(self._used[stitch] for stitch in self._pending))
        for parameter in self._backbone.parameters():
            if id(parameter) not in used:
                parameter.grad = None
        self._pending.clear()


def flops_bins(
    backbone: StitchedBackbone, stitches: Sequence[int], bins: int, image_size: int
) -> list[list[int]]:
    """Group stitches by operations, in bins of equal width; empty ones are left out.

    Args:
        backbone: counted on the meta device, itself untouched.
        stitches: ids.
        bins: number of bins.
        image_size: height and width, pixels.

    Returns:
        Ids of each bin, cheap to dear.
    """
    flops = stitch_flops(backbone, stitches, image_size)
    edges = np.linspace(min(flops), max(flops), bins + 1)[1:-1]
    groups: dict[int, list[int]] = {}
    for stitch, place in zip(stitches, np.digitize(flops, edges), strict=True):
        groups.setdefault(int(place), []).append(stitch)
    return [groups[place] for place in sorted(groups)]
