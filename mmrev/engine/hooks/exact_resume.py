"""Data and random numbers that do not depend on where a run was interrupted."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import IterableDataset

from mmrev.datasets.batches import Batches, place_in_loader
from mmrev.leaderboard.lineage import PROCESSES_KEY
from mmrev.leaderboard.tracks import track_of
from mmrev.registry import HOOKS

__all__ = ["ExactResumeHook"]


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Lets a resumed run go on as if it had never stopped.

    mmengine begins an interrupted epoch anew, and all random numbers but the order of
    the images (augmentation, drop path, denoising queries). With this hook a run
    continues with the batch that comes next, whatever sampler and loop, and loads none
    of those before; a checkpoint made after an epoch's last iteration and before its
    end continues with that end, and one made before a validation with that validation
    (mmengine leaves it out, and a best score with it). Each batch is loaded with
    numbers of its own, by seed, rank and iteration, in this process or in however many
    workers, and so is each training step computed.

    What transforms remember from image to image (``CachedMosaic``) starts empty.
    """

    # After hooks that change the loader, or draw numbers before a step.
    priority = "LOWEST"

    def __init__(self):
        self._meta: dict = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what the checkpoint says of its place."""
        if runner._resume:
            self._meta = checkpoint["meta"]

    def before_train(self, runner: Runner) -> None:
        """Take over the batches of the loader, from the right place on."""
        loop, loader = runner.train_loop, runner.train_dataloader
        self._endless = isinstance(loop, IterBasedTrainLoop)
        self._epoch, self._epoch_start = runner.epoch, runner.iter
        done = self._done_in_epoch(runner) if not self._endless else 0
        if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
            if runner.iter:
                runner.logger.warning(
                    "The training data have no batches of indices to skip: the "
                    "resumed run starts with their beginning."
                )
        else:
            self._place_batches(runner, done)
        # Of other batches, the epoch that it was made in starts anew.
        inside = done or self._meta.get("batches_done", (0,))[0]
        if not inside and self._validation_is_due(runner):
            runner.val_loop.run()

    def _place_batches(self, runner: Runner, done: int) -> None:
        """Let loading start after the iterations, of the epoch `done`, so far."""
        loop, loader = runner.train_loop, runner.train_dataloader
        batches = Batches(
            loader.batch_sampler,
            lambda: runner.iter,
            lambda iteration: self._seeds(runner, iteration)[0],
            "endless" if self._endless else "one",
        )
        place_in_loader(loader, batches)
        if self._endless:
            # The loop asks for it, unless told not to.
            loop.dataloader_iterator.skip_iter = batches.skip
            return
        batches.begin_passes(runner.epoch)
        batches.skip(done)
        self._epoch_start -= done
        if done and isinstance(loop, EpochBasedTrainLoop):
            self._count_from(loop, done)

    def before_train_epoch(self, runner: Runner) -> None:
        """Note where the epoch starts."""
        if runner.epoch != self._epoch:
            self._epoch, self._epoch_start = runner.epoch, runner.iter

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the model; the batch is already loaded."""
        seed = self._seeds(runner, runner.iter)[1]
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    def after_train_epoch(self, runner: Runner) -> None:
        """Let the next epoch count its batches from its beginning."""
        vars(runner.train_loop).pop("run_iter", None)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add track, processes, whether ops are deterministic, and the place.

        The place in the epoch: batches done, and of how many.
        """
        meta = checkpoint["meta"]
        meta[PROCESSES_KEY] = get_world_size()
        meta["track"] = track_of(runner.cfg)
        meta["deterministic"] = torch.are_deterministic_algorithms_enabled()
        if self._endless:
            return
        # Saved at the end of an epoch, or after it, `meta` counts it already.
        inside = meta["epoch"] == self._epoch
        done = meta["iter"] - self._epoch_start if inside else 0
        meta["batches_done"] = [done, len(runner.train_dataloader)]

    def _validation_is_due(self, runner: Runner) -> bool:
        """Whether the checkpoint was made before a validation, which chooses the best.

        By the rule of mmengine's loops.
        """
        loop = runner.train_loop
        loops = EpochBasedTrainLoop, IterBasedTrainLoop
        if not self._meta or self._meta.get("validated") or not isinstance(loop, loops):
            return False
        done, last = runner.epoch, runner.max_epochs
        if self._endless:
            done, last = runner.iter, runner.max_iters
        if runner.val_loop is None or not done or done < loop.val_begin:
            return False
        loop._decide_current_val_interval()
        return done % loop.val_interval == 0 or done == last

    def _done_in_epoch(self, runner: Runner) -> int:
        length = len(runner.train_dataloader)
        if "batches_done" not in self._meta:
            # Not of this hook: true if all epochs so far were as long as this one.
            done = runner.iter - runner.epoch * length
            return done if 0 <= done <= length else 0
        done, whole = self._meta["batches_done"]
        if done and whole != length:
            runner.logger.warning(
                f"The checkpoint was made after {done} of an epoch's {whole} batches, "
                f"but now an epoch has {length}: epoch {runner.epoch + 1} starts anew, "
                "so that some images are seen again. With the batch size, processes "
                "and data of before it would continue."
            )
            return 0
        return done

    @staticmethod
    def _count_from(loop: EpochBasedTrainLoop, done: int) -> None:
        """Let hooks and logs see the number of a batch in its whole epoch."""
        run_iter = loop.run_iter
        loop.run_iter = lambda index, batch: run_iter(index + done, batch)

    @staticmethod
    def _seeds(runner: Runner, iteration: int) -> list[int]:
        """Of loading a batch, and of the training step with it."""
        entropy = np.random.SeedSequence([runner.seed, get_rank(), iteration])
        return entropy.generate_state(2).tolist()
