"""Batches that know their place in a training: found by it, and seeded by it."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

__all__ = ["Batches", "SeededItems", "place_in_loader", "seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what loading draws from (Python, numpy, torch's CPU); put it back after.

    A GPU's generators are left alone, which ``torch.manual_seed`` would seed, too.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


class _Batch(list):
    """The indices of a batch, and the seed of what loading it draws."""

    def __init__(self, indices: Sequence, seed: int):
        super().__init__(indices)
        self.seed = seed


class Batches:
    """A batch sampler that can start in the middle of a training.

    It draws the batches before that place, from whatever sampler it is, and leaves them
    out; no image is loaded for it, and workers that load ahead never hear of them.

    Args:
        batch_sampler: whose batches these are.
        iteration: returns the training's iteration, whenever loading starts.
        seed_of: gives the seed of the batch of an iteration.
        passes: 'one', a pass ends where the sampler's does, as an epoch loop has it;
            'endless', the next one follows, as an iteration loop has it.
    """

    def __init__(
        self,
        batch_sampler: BatchSampler,
        iteration: Callable[[], int],
        seed_of: Callable[[int], int],
        passes: str,
    ):
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler  # whose epoch mmengine sets
        self.iteration = iteration
        self.seed_of = seed_of
        self.passes = passes
        self._skipped = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def skip(self, count: int) -> None:
        """Leave out so many batches when loading starts next."""
        self._skipped = count

    def begin_passes(self, count: int) -> None:
        """Begin so many passes, for samplers whose later ones depend on earlier ones.

        Of mmdet, CustomSampleSizeSampler goes on in each pass where the last one ended.
        """
        for index in range(count):
            self._set_pass(index)
            iter(self.sampler)

    def __iter__(self) -> Iterator[_Batch]:
        number = self.iteration() - self._skipped
        passes, empty = 0, False
        while not empty:
            empty = True
            batches = iter(self.batch_sampler)
            while True:
                # Seeded, for the samplers that draw from the global generators.
                with seeded(seed := self.seed_of(number)):
                    indices = next(batches, None)
                if indices is None:
                    break
                empty = False
                number += 1
                if self._skipped:
                    self._skipped -= 1
                else:
                    yield _Batch(indices, seed)
            if self.passes == "one":
                return
            passes += 1
            self._set_pass(passes)

    def _set_pass(self, index: int) -> None:
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(index)


class SeededItems:
    """Loads a batch of `Batches` from a data set, seeded, in whatever process.

    To be set as the data set's ``__getitems__``, by which torch's loader asks for all
    items of a batch at once.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.several = getattr(dataset, "__getitems__", None)

    def __call__(self, indices: _Batch) -> list:
        """The items of a batch."""
        with seeded(indices.seed):
            if self.several is not None:
                return self.several(indices)
            return [self.dataset[index] for index in indices]


def place_in_loader(loader: DataLoader, batches: Batches) -> None:
    """Let a loader that has not started take its batches from `batches`."""
    loader.dataset.__getitems__ = SeededItems(loader.dataset)
    # The loader refuses a new sampler, which workers that run would not hear of.
    vars(loader)["batch_sampler"] = batches
