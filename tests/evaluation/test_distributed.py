"""Every metric in processes of which some repeat an image, lack one, or have none."""

import os

import pytest
import torch
from data_layouts import SIZES, make_ade20k
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATASETS
from random_coco import random_case
from random_panoptic import random_case as random_panoptic
from resolved import use_scope
from test_coco_metric import built, samples_of
from test_coco_metric import measured as measured_boxes
from test_coco_panoptic_metric import built as built_panoptic
from test_coco_panoptic_metric import measured as measured_segments
from test_coco_panoptic_metric import samples_of as samples_of_segments
from test_iou_metric import measured as measured_maps
from test_iou_metric import random_maps

from mmrev.datasets import SameSizeBatchSampler, resized
from mmrev.evaluation.iou_metric import IoUMetric
from mmrev.evaluation.predictions import DumpPredictions, read_predictions

# As the sampler shares images out; without the third of five, for which the repeated
# image must not pass; and of two, where one process has none, or one of the others'.
PAIR = {
    "whole": (5, ([0, 2, 4], [1, 3, 0])),
    "gap": (5, ([0, 4], [1, 3, 0])),
    "none": (2, ([0, 1], [])),
}
TRIO = {
    "whole": (7, ([0, 3, 6], [1, 4, 0], [2, 5, 1])),
    "gap": (7, ([0, 3], [1, 4, 0], [2, 5, 1])),
    "none": (2, ([0], [1], [])),
    "again": (2, ([0], [1], [0])),
}


def boxes_of(folder, images, count):
    truth, found = random_case(8, images=count, objects=5, detections=9)
    samples = samples_of(truth, found)
    metric = built(truth, folder)
    figures = measured_boxes(metric, [samples[i] for i in images], count)
    return figures, metric.coverage


def maps_of(images, count):
    classes, samples = random_maps(3, count)
    return measured_maps(IoUMetric, classes, repeated(samples, images), count)


def repeated(samples, images):
    """Where an image comes out of turn, its prediction is another, of one class."""
    chosen = [samples[i] for i in images]
    for place in range(1, len(images)):
        if images[place] < images[place - 1]:
            labels = torch.zeros_like(chosen[place]["pred_sem_seg"]["data"])
            chosen[place] = chosen[place] | {"pred_sem_seg": {"data": labels}}
    return chosen


def stored(folder, images, count):
    """What a test with --out leaves, which is read in the main process."""
    _, samples = random_maps(3, count)
    file = folder / f"{len(images)}.npz"
    dump = DumpPredictions(str(file))
    dump.process({}, repeated(samples, images))
    dump.evaluate(count)
    if not file.exists():
        return {}
    return {
        name: found["pred_sem_seg"]["data"].tolist()
        for name, found in read_predictions(file)
    }


def segments_of(folder, images, count):
    truth, true, predicted = random_panoptic(104, images=count)
    samples = samples_of_segments(predicted)
    metric = built_panoptic(truth, true, folder)
    figures = measured_segments(metric, [samples[i] for i in images], count)
    return figures, metric.coverage


def work(rank, folder, shares):
    os.chdir(folder)  # mmengine collects in a folder there
    own = folder / str(rank)
    own.mkdir()
    results = {}
    for name, (count, images) in shares.items():
        results[name] = evaluated(own, images[rank], count)
        results[f"stored {name}"] = stored(own, images[rank], count)
    return results


def evaluated(folder, images, count):
    return (
        boxes_of(folder, images, count),
        maps_of(images, count),
        segments_of(folder, images, count),
    )


@pytest.mark.parametrize(
    ("group", "shares"),
    [
        ("process_pair", PAIR),
        pytest.param(*("process_trio", TRIO), marks=[pytest.mark.slow, pytest.mark.ci]),
    ],
)
def test_processes_evaluate_as_one(group, shares, tmp_path, request):
    first, *others = request.getfixturevalue(group).run(work, tmp_path, shares)
    for name, (count, shared) in shares.items():
        images = sorted({image for share in shared for image in share})
        alone = evaluated(tmp_path, images, count)
        assert first[name] == alone
        # Those that the metric counted.
        assert first[f"stored {name}"] == stored(tmp_path, images, count)
        for other in others:
            assert [one[0] for one in other[name]] == [one[0] for one in alone]
        for _, coverage in first[name]:
            assert (coverage.expected, coverage.evaluated) == (count, len(images))


def batches_of(rank, folder):
    """In processes of which the first alone can read the headers of images."""
    os.chdir(folder)
    use_scope("mmseg")
    dataset = DATASETS.build(
        dict(
            type="ADE20KDataset",
            data_root="data/ade/ADEChallengeData2016",
            data_prefix=dict(
                img_path="images/validation", seg_map_path="annotations/validation"
            ),
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="Resize", scale=(64, 64), keep_ratio=False),
                dict(type="PackSegInputs"),
            ],
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(resized, "size_of", None)
        return list(SameSizeBatchSampler(DefaultSampler(dataset, shuffle=False), 4))


def test_processes_share_out_batches_of_one_size(tmp_path, process_pair):
    make_ade20k(tmp_path)
    first, second = process_pair.run(batches_of, tmp_path)
    assert (first, second) == ([list(range(len(SIZES)))], [])
