"""Every metric in two processes, of which one repeats an image or lacks one."""

import os

import torch
from random_coco import random_case
from random_panoptic import random_case as random_panoptic
from test_coco_metric import built, samples_of
from test_coco_metric import measured as measured_boxes
from test_coco_panoptic_metric import built as built_panoptic
from test_coco_panoptic_metric import measured as measured_segments
from test_coco_panoptic_metric import samples_of as samples_of_segments
from test_iou_metric import measured as measured_maps
from test_iou_metric import random_maps

from mmrev.evaluation.iou_metric import IoUMetric
from mmrev.evaluation.predictions import DumpPredictions, read_predictions

# As the sampler shares 5 images out; without the third, for which the repeated image
# must not pass.
SHARES = {"whole": ([0, 2, 4], [1, 3, 0]), "gap": ([0, 4], [1, 3, 0])}


def boxes_of(folder, images):
    truth, found = random_case(8, images=5, objects=5, detections=9)
    samples = samples_of(truth, found)
    metric = built(truth, folder)
    figures = measured_boxes(metric, [samples[i] for i in images], 5)
    return figures, metric.coverage


def maps_of(images):
    classes, samples = random_maps(3)
    return measured_maps(IoUMetric, classes, repeated(samples, images), 5)


def repeated(samples, images):
    """Where an image comes out of turn, its prediction is another, of one class."""
    chosen = [samples[i] for i in images]
    for place in range(1, len(images)):
        if images[place] < images[place - 1]:
            labels = torch.zeros_like(chosen[place]["pred_sem_seg"]["data"])
            chosen[place] = chosen[place] | {"pred_sem_seg": {"data": labels}}
    return chosen


def stored(folder, images):
    """What a test with --out leaves, which is read in the main process."""
    _, samples = random_maps(3)
    file = folder / f"{len(images)}.npz"
    dump = DumpPredictions(str(file))
    dump.process({}, repeated(samples, images))
    dump.evaluate(5)
    if not file.exists():
        return {}
    return {
        name: found["pred_sem_seg"]["data"].tolist()
        for name, found in read_predictions(file)
    }


def segments_of(folder, images):
    truth, true, predicted = random_panoptic(104, images=5)
    samples = samples_of_segments(predicted)
    metric = built_panoptic(truth, true, folder)
    figures = measured_segments(metric, [samples[i] for i in images], 5)
    return figures, metric.coverage


def work(rank, folder):
    os.chdir(folder)  # mmengine collects in a folder there
    own = folder / str(rank)
    own.mkdir()
    results = {name: evaluated(own, share[rank]) for name, share in SHARES.items()}
    for name, share in SHARES.items():
        results[f"stored {name}"] = stored(own, share[rank])
    return results


def evaluated(folder, images):
    return boxes_of(folder, images), maps_of(images), segments_of(folder, images)


def test_two_processes_evaluate_as_one(tmp_path, process_pair):
    first, second = process_pair.run(work, tmp_path)
    for name, images in (("whole", range(5)), ("gap", (0, 1, 3, 4))):
        alone = evaluated(tmp_path, images)
        assert first[name] == alone
        # Those that the metric counted.
        assert first[f"stored {name}"] == stored(tmp_path, images)
        assert [one[0] for one in second[name]] == [one[0] for one in alone]
        for _, coverage in first[name]:
            assert (coverage.expected, coverage.evaluated) == (5, len(images))
