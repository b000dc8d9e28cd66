"""Copies of an image in one batch: which images, how often, and in which process."""

from collections import Counter

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import Runner
from mmpretrain.datasets.samplers import RepeatAugSampler
from torch import nn

from mmrev.datasets import RepeatedAugmentationBatchSampler
from mmrev.datasets.batches import Batches

COPIES = dict(type="mmrev.RepeatedAugmentationBatchSampler")


def sampled(images, rank=0, processes=1, kind=DefaultSampler, **settings):
    """A sampler of one of several processes."""
    sampler = kind(range(images), seed=3, **settings)
    vars(sampler).update(
        rank=rank, world_size=processes, num_samples=-(-images // processes)
    )
    sampler.total_size = sampler.num_samples * processes
    return sampler


@pytest.mark.parametrize("repeats", [1, 2, 4])
def test_an_epoch_shows_every_image_so_often(repeats):
    batches = RepeatedAugmentationBatchSampler(sampled(10), 8, repeats)
    seen = []
    for epoch in range(2):
        batches.sampler.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches) == -(-10 * repeats // 8)
        for batch in found:
            assert set(Counter(batch).values()) == {repeats}  # all copies, no others
        assert [len(batch) for batch in found[:-1]] == [8] * (len(found) - 1)
        seen.append([image for batch in found for image in batch])
        assert Counter(seen[-1]) == dict.fromkeys(range(10), repeats)
    assert seen[0] != seen[1]


def test_copies_stay_in_one_process_and_processes_share_the_images():
    shares = [
        list(RepeatedAugmentationBatchSampler(sampled(12, rank, 3), 4, 4))
        for rank in range(3)
    ]
    assert [len(share) for share in shares] == [4, 4, 4]
    images = [{image for batch in share for image in batch} for share in shares]
    assert set.union(*images) == set(range(12))
    assert sum(map(len, images)) == 12


def test_what_is_deits():
    """mmpretrain's shows a third of the images an epoch, each in every process."""
    kept = dict(kind=RepeatAugSampler, num_repeats=3)
    shares = []
    for rank in range(3):
        sampler = sampled(12, rank, 3, **kept)
        # As its __init__ computes them of the processes.
        sampler.num_samples = 12
        sampler.total_size, sampler.num_selected_samples = 36, 4
        shares.append(list(sampler))
    assert shares[0] == shares[1] == shares[2]
    assert len(set(shares[0])) == 4
    ours = RepeatedAugmentationBatchSampler(sampled(12), 6, 3)
    assert len({image for batch in ours for image in batch}) == 12


class Noise:
    """Images that are nothing but what their augmentation drew."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.rand(3), number=index)


@pytest.mark.parametrize("workers", [0, 1])
def test_each_copy_is_augmented_by_itself(workers):
    loader = Runner.build_dataloader(
        dict(
            dataset=Noise(),
            sampler=dict(type="DefaultSampler", shuffle=True),
            batch_sampler=dict(COPIES, num_repeats=2),
            batch_size=4,
            num_workers=workers,
        )
    )
    for batch in loader:
        numbers = [int(number) for number in batch["number"]]
        assert numbers[0] == numbers[1] != numbers[2] == numbers[3]
        assert len({tuple(image.tolist()) for image in batch["inputs"]}) == 4


@pytest.mark.parametrize("done", [1, 3])
def test_a_resumed_epoch_goes_on_with_the_next_batch(done):
    def placed():
        sampler = RepeatedAugmentationBatchSampler(sampled(10), 4, 2)
        return Batches(sampler, lambda: done, lambda number: number, "one")

    whole = [list(batch) for batch in placed()]
    resumed = placed()
    resumed.begin_passes(0)
    resumed.skip(done)
    assert [list(batch) for batch in resumed] == whole[done:]


def test_the_learning_rate_is_scaled_by_copies(tmp_path):
    """mmengine's auto_scale_lr."""
    runner = Runner(
        model=nn.Linear(1, 1),
        work_dir=str(tmp_path),
        train_dataloader=dict(
            dataset=Noise(),
            sampler=dict(type="DefaultSampler", shuffle=True),
            batch_sampler=COPIES,
            batch_size=8,
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=1.0)),
        log_level="ERROR",
    )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, dict(enable=True, base_batch_size=16))
    assert runner.optim_wrapper.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("sampler", "batch", "repeats", "message"),
    [
        (
            sampled(8),
            30,
            4,
            "batch_size must be a multiple of num_repeats=4, so that all copies of an "
            r"image lie in one batch, got 30\. Set batch_size to 28 or 32\.$",
        ),
        (sampled(8), 3, 4, r"got 3\. Set batch_size to 4\.$"),
        (sampled(8), 8, 0, r"num_repeats must be >= 1, got 0\.$"),
        (sampled(8), 0, 4, "batch_size should be a positive integer"),
        (
            RepeatAugSampler(range(8), seed=0),
            8,
            4,
            "expected a sampler that gives every image once, got RepeatAugSampler, "
            r"which repeats 3 times itself\. Use sampler=dict\(type='DefaultSampler'",
        ),
    ],
)
def test_what_is_refused(sampler, batch, repeats, message):
    with pytest.raises(ValueError, match=message):
        RepeatedAugmentationBatchSampler(sampler, batch, repeats)
