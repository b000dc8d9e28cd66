"""Copies of what metrics keep lie side by side, and keep nothing else alive."""

import numpy as np
import torch

from mmrev.evaluation.iou_metric import IoUMetric
from mmrev.evaluation.kept import Kept, KeptArrays


def test_copies_are_equal_and_independent():
    rng = np.random.default_rng(0)
    store, arrays, kept = KeptArrays(), [], []
    for dtype in (np.float32, np.int32, np.uint8, np.int64, np.float64):
        for shape in ((), (0, 4), (3,), (5, 4), (2, 1, 7), (400_000,)):
            arrays.append((1 + 100 * rng.random(shape)).astype(dtype))
            kept.append(store.keep(arrays[-1]))
    for array, one in zip(arrays, kept, strict=True):
        found = one.array()
        assert found.dtype == array.dtype and found.flags.aligned
        assert np.array_equal(found, array) and found.shape == array.shape
        found[...] = 0  # reaches no other
    assert not any(one.array().any() for one in kept)


def test_parts_of_other_arrays_are_copied():
    whole = np.arange(12.0).reshape(3, 4)
    kept = KeptArrays().keep(whole[:, 1])
    whole[:] = 0
    assert kept.array().tolist() == [1, 5, 9]


def test_small_ones_share_their_memory():
    store = KeptArrays()
    one, other = (store.keep(np.arange(300.0)) for _ in range(2))
    assert one.room is other.room
    assert other.start == one.start + 2400


def test_counts_of_pairs_of_classes_are_not_kept():
    metric = IoUMetric()
    metric.dataset_meta = {"classes": [str(one) for one in range(150)]}
    labels = torch.arange(150).reshape(1, 10, 15)
    sample = {"gt_sem_seg": {"data": labels}, "pred_sem_seg": {"data": labels}}
    metric.process({}, [sample | {"img_path": "a"}])
    ((image, pixels, counts),) = metric.results
    assert (image, pixels) == ("a", 150) and isinstance(counts, Kept)
    assert counts.array().tolist() == [[1] * 150] * 4
    assert metric.evaluate(1)["mIoU"] == 100
