"""Training and tests on data of which some images cannot be read."""

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import all_gather_object, all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from mmrev.atomic import write_bytes
from mmrev.datasets.readable import (
    Notes,
    NotingCollate,
    ReadableItems,
    log_unreadable,
    note_unreadable,
)
from mmrev.errors import UserError, shortened
from mmrev.leaderboard.lineage import SKIPPED_KEY
from mmrev.wrappers import plain_datasets

__all__ = ["UnreadableImagesHook"]

_FILE = "unreadable_images.txt"


class UnreadableImagesHook(Hook):
    """Lets a run do without images that cannot be read, as far as it was allowed to.

    Training skips a share of them: an image that can be read is in the place of each,
    the same one in any process, and after a resume. Their names go to the log and to
    ``unreadable_images.txt`` in the work dir, names and numbers into checkpoints, and
    from there into records. Validation and test go on without any number of them, by
    metrics that count each image once: `mmrev.evaluation`'s. They find an image
    missing, and state it.

    Args:
        share: of the training images that may be unreadable, 0 (none) to below 1.

    Raises:
        UserError: it is none.
    """

    priority = "HIGH"  # before whatever else looks at a batch

    def __init__(self, share: float = 0) -> None:
        number = isinstance(share, int | float) and not isinstance(share, bool)
        if not number or not 0 <= share < 1:
            raise UserError(
                "unreadable_images: expected a share of the training images, 0 (none) "
                f"to below 1, got {share!r}."
            )
        self.share = share
        self._faults: dict[str, str] = {}
        self._draws = self._redrawn = 0

    def before_run(self, runner: Runner) -> None:
        """Say what happens in the place of an image."""
        for split in ("val", "test"):
            loop = getattr(runner, f"_{split}_loop")
            if isinstance(loop, BaseLoop) and all(
                getattr(metric, "counts_each_image_once", False)
                for metric in loop.evaluator.metrics
            ):
                for items in _items(loop.dataloader.dataset):
                    items.met = log_unreadable

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on counting where a resumed run was."""
        if runner._resume and (found := checkpoint["meta"].get(SKIPPED_KEY)):
            self._faults, self._draws = dict(found["faults"]), found["draws"]

    def before_train(self, runner: Runner) -> None:
        """Let batches tell what was met as they were loaded."""
        loader = runner.train_dataloader
        parts = list(_items(loader.dataset))
        self._total = sum(len(items.dataset) for items in parts)
        if self.share:
            for items in parts:
                items.met = note_unreadable
        loader.collate_fn = NotingCollate(loader.collate_fn)
        if self._faults:
            self._write(runner)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Count.

        Raises:
            UserError: more images are unreadable than the share allows.
        """
        notes = getattr(data_batch, "notes", Notes([], []))
        if notes.redrawn and not self._redrawn:
            runner.logger.warning(
                "a transform left out an image, as small or empty ones, and another "
                f"was drawn in its place: {notes.redrawn[0]}. This is said once."
            )
        self._redrawn += len(notes.redrawn)
        met = self._of_all(notes.unreadable)
        new = {path: fault for path, fault in met if path not in self._faults}
        self._draws += len(met)
        if not new:
            return
        self._faults |= new
        for path, fault in new.items():
            runner.logger.warning(f"skipped, as it cannot be read: {path} ({fault})")
        self._write(runner)
        most = int(self.share * self._total)
        if len(self._faults) > most:
            named = (f"{path} ({fault})" for path, fault in self._faults.items())
            raise UserError(
                f"unreadable_images: expected at most {most} of {self._total} training "
                f"images ({self.share:g}), got {len(self._faults)}: "
                f"{shortened(named)}; replace them, or raise unreadable_images. "
                "tools/check_data.py names all of them."
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add which images were skipped, of how many, and how often."""
        if self._faults:
            checkpoint["meta"][SKIPPED_KEY] = {
                "faults": self._faults,
                "total": self._total,
                "draws": self._draws,
            }

    def after_train(self, runner: Runner) -> None:
        """Say how often another image was drawn."""
        if self._redrawn:
            runner.logger.info(
                f"{self._redrawn} times another image was drawn for one that a "
                "transform left out (in this process, since it began)"
            )

    def _of_all(self, met: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """What all processes met in this iteration, so that all decide alike."""
        if not self.share or get_world_size() == 1:
            return met
        somewhere = torch.tensor(float(bool(met)))
        all_reduce(somewhere, "max")
        return list(chain(*all_gather_object(met))) if somewhere else []

    def _write(self, runner: Runner) -> None:
        if is_main_process():
            lines = (f"{path} ({fault})\n" for path, fault in self._faults.items())
            write_bytes(Path(runner.work_dir, _FILE), "".join(lines).encode())


def _items(dataset: Any) -> list[ReadableItems]:
    """What prepares the items of the data sets inside of wrappers."""
    found = (one for one in plain_datasets(dataset) if isinstance(one, BaseDataset))
    items = (one.prepare_data for one in found)
    return [one for one in items if isinstance(one, ReadableItems)]
