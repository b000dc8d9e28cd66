"""Randomness that does not depend on where a run was interrupted."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmrev.registry import FUNCTIONS, HOOKS

__all__ = ["IterationSeedHook", "seed_worker"]


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds every iteration from (seed, rank, iteration).

    mmengine continues the order of the images, but starts all other random numbers
    (augmentation, drop path, denoising queries) afresh, so that a resumed run departs
    from the uninterrupted one. With this hook both draw the same numbers, in any loop
    and any number of processes, provided images are loaded in the training process
    (``num_workers=0``), or by workers that start with each epoch
    (``persistent_workers=False`` in an epoch loop) and use :func:`seed_worker`.
    Otherwise the order of the images is still exact and the augmentations are new ones.
    """

    priority = "LOWEST"

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the first batch and the start of the workers draw."""
        self._seed(runner, runner.iter)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the model; the batch is already loaded."""
        torch.manual_seed(self._number(runner, runner.iter))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the loading of the next batch."""
        self._seed(runner, runner.iter + 1)

    def _seed(self, runner: Runner, iteration: int) -> None:
        number = self._number(runner, iteration)
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)

    @staticmethod
    def _number(runner: Runner, iteration: int) -> int:
        entropy = np.random.SeedSequence([runner.seed, get_rank(), iteration])
        return int(entropy.generate_state(1)[0])


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed a loading worker from the number torch drew for it in the main process.

    mmengine gives a worker the same seed whenever it starts: each epoch, and each
    resumed run, then repeats the augmentations of the first.
    """
    number = torch.initial_seed() % 2**32
    random.seed(number)
    np.random.seed(number)
