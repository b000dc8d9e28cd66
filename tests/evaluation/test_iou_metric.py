"""mmrev.IoUMetric beside mmseg's."""

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.structures import PixelData
from mmseg.datasets.transforms import LoadAnnotations
from mmseg.evaluation.metrics import IoUMetric as MMSegIoUMetric
from mmseg.models import SegTTAModel
from mmseg.structures import SegDataSample
from PIL import Image
from torch import nn

from mmrev.evaluation.iou_metric import IoUMetric

METRICS = ["mIoU", "mDice", "mFscore"]


def random_maps(seed, count=5, classes=None):
    """Labels and predictions, some classes absent, some pixels ignored."""
    generator = torch.Generator().manual_seed(seed)
    classes = classes or int(torch.randint(2, 20, (), generator=generator))
    samples = []
    for number in range(count):
        size = torch.randint(1, 40, (2,), generator=generator).tolist()
        most = int(torch.randint(1, classes + 1, (), generator=generator))
        label = torch.randint(most, size, generator=generator)
        pred = torch.randint(classes, size, generator=generator)
        pred = torch.where(torch.rand(size, generator=generator) < 0.6, label, pred)
        label[torch.rand(size, generator=generator) < 0.2] = 255
        samples.append(sample_of(f"{number}.jpg", label, pred))
    return classes, samples


def sample_of(path, label, pred):
    return dict(
        img_path=path,
        gt_sem_seg=dict(data=label[None]),
        pred_sem_seg=dict(data=pred[None]),
    )


def measured(kind, classes, samples, size=None, **settings):
    metric = kind(**settings)
    metric.dataset_meta = {"classes": [f"class{i}" for i in range(classes)]}
    metric.process({}, samples)
    figures = metric.evaluate(len(samples) if size is None else size)
    return figures, getattr(metric, "coverage", None)


@pytest.mark.parametrize("settings", [{}, dict(nan_to_num=0), dict(ignore_index=1)])
def test_random_maps(settings):
    for seed in range(40):
        classes, samples = random_maps(seed)
        if settings.get("ignore_index") == 1:
            for sample in samples:
                labels = sample["gt_sem_seg"]["data"]
                labels[labels == 255] = 1
        arguments = (classes, samples)
        ours, _ = measured(IoUMetric, *arguments, iou_metrics=METRICS, **settings)
        theirs, _ = measured(
            MMSegIoUMetric, *arguments, iou_metrics=METRICS, **settings
        )
        assert ours.keys() == theirs.keys() >= {"mIoU", "mAcc", "aAcc", "mDice"}
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value, err_msg=f"{seed} {name}")


def test_class_counts_are_mmsegs():
    for seed in range(60):
        classes, samples = random_maps(seed, count=1)
        maps = [samples[0][key]["data"] for key in ("pred_sem_seg", "gt_sem_seg")]
        ours = IoUMetric.intersect_and_union(*maps, classes, 255)
        theirs = MMSegIoUMetric.intersect_and_union(*maps, classes, 255)
        for one, other in zip(ours, theirs, strict=True):
            assert one.tolist() == other.tolist()
            assert one.dtype == torch.int64  # so that no sum is rounded


def test_classes_and_pixels_that_do_not_count_are_told_of(monkeypatch):
    """Masks drawn with 0 and 255 instead of 0 and 1 give 100 percent."""
    told = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: told.append(text))
    drawn = torch.zeros(4, 8, dtype=int)
    drawn[:, 5:] = 255
    sample = sample_of("a.jpg", drawn, torch.zeros_like(drawn))
    metric = IoUMetric()
    metric.dataset_meta = {"classes": ["ground", "road"]}
    metric.process({}, [sample])
    assert metric.evaluate(1)["mIoU"] == 100
    remark = (
        "IoUMetric: mIoU is the mean over the 1 of 2 classes that are true or "
        "predicted anywhere; in no ground truth: road; 37.50 % of the pixels are "
        "ignored"
    )
    assert metric.remarks == told == [remark]
    sample = sample_of("a.jpg", drawn.clamp(max=1), torch.zeros_like(drawn))
    metric.process({}, [sample])
    metric.evaluate(1)
    assert len(told) == 1 and metric.remarks == [
        "IoUMetric: mIoU is the mean over the 2 of 2 classes that are true or "
        "predicted anywhere; 0.00 % of the pixels are ignored"
    ]


def test_reduced_zero_label(tmp_path):
    """0 of the file is ignored, as mmseg's loader makes of it."""
    stored = np.random.default_rng(0).integers(0, 4, (20, 30), dtype=np.uint8)
    Image.fromarray(stored).save(tmp_path / "map.png")
    loaded = LoadAnnotations(reduce_zero_label=True).transform(
        dict(
            seg_map_path=str(tmp_path / "map.png"),
            reduce_zero_label=True,
            seg_fields=[],
        )
    )["gt_seg_map"]
    pred = torch.randint(3, (20, 30), generator=torch.Generator().manual_seed(0))
    samples = [sample_of("map.jpg", torch.from_numpy(loaded).long(), pred)]
    ours, _ = measured(IoUMetric, 3, samples)
    assert ours == measured(MMSegIoUMetric, 3, samples)[0]
    right = (stored == pred.numpy() + 1).sum() / (stored > 0).sum()
    assert ours["aAcc"] == pytest.approx(100 * right, abs=5e-3)


def test_binary_predictions_are_floating_point():
    label = torch.randint(2, (20, 30), generator=torch.Generator().manual_seed(0))
    samples = [sample_of("a.jpg", label.byte(), (label ^ 1).float())]
    assert measured(IoUMetric, 2, samples)[0]["mIoU"] == 0
    samples = [sample_of("a.jpg", label.byte(), label.float())]
    assert measured(IoUMetric, 2, samples)[0]["mIoU"] == 100


@pytest.mark.parametrize(
    ("label", "pred", "message"),
    [
        (3, 0, r"expected true labels of 0\.\.2 or 255, got 3"),
        (-1, 0, r"expected true labels of 0\.\.2 or 255, got -1"),
        (0, 3, r"expected predicted labels of 0\.\.2, got 3"),
        (0, 255, r"expected predicted labels of 0\.\.2, got 255"),
    ],
)
def test_labels_that_are_no_class_are_refused(label, pred, message):
    maps = [torch.zeros(4, 5, dtype=int) for _ in range(2)]
    maps[0][1, 2], maps[1][2, 3] = label, pred
    with pytest.raises(ValueError, match=rf"image some\.jpg: {message}"):
        measured(IoUMetric, 3, [sample_of("some.jpg", *maps)])


def test_maps_of_two_sizes_are_refused():
    maps = torch.zeros(4, 5, dtype=int), torch.zeros(5, 4, dtype=int)
    with pytest.raises(
        ValueError, match=r"some\.jpg: expected prediction and truth of"
    ):
        measured(IoUMetric, 3, [sample_of("some.jpg", *maps)])


def test_images_are_counted_once_and_missing_ones_told_of():
    classes, samples = random_maps(3)
    figures, coverage = measured(IoUMetric, classes, samples)
    assert coverage.unreadable == 0
    again, coverage = measured(IoUMetric, classes, samples + samples[:2], 6)
    assert again == figures
    assert (coverage.expected, coverage.evaluated, coverage.unreadable) == (6, 5, 1)
    with pytest.raises(ValueError, match="no image has predictions"):
        measured(IoUMetric, classes, [], 6)


def test_maps_are_saved_without_a_truth(tmp_path):
    pred = torch.randint(3, (1, 20, 30))
    sample = dict(
        img_path="a.jpg", pred_sem_seg=dict(data=pred), reduce_zero_label=True
    )
    settings = dict(output_dir=str(tmp_path), format_only=True)
    figures, coverage = measured(IoUMetric, 3, [sample], **settings)
    assert figures == {} and coverage.evaluated == 1
    saved = np.asarray(Image.open(tmp_path / "a.png"))
    assert (saved == pred[0].numpy() + 1).all()


def test_views_of_an_image_are_merged_before():
    """mmseg adds the views' probabilities up; the metric sees one map."""

    views = []
    truth = PixelData(data=torch.randint(3, (1, 8, 9)))
    logits = torch.randn(4, 3, 8, 9)
    for one in logits:
        sample = SegDataSample(metainfo=dict(img_path="a.jpg"))
        sample.seg_logits, sample.gt_sem_seg = PixelData(data=one), truth
        views.append(sample)
    module = nn.Identity()
    module.out_channels, module.test_step = 3, None
    merged = SegTTAModel(module=module).merge_preds([views])
    evaluator = Evaluator(dict(type="mmrev.IoUMetric"))
    evaluator.dataset_meta = {"classes": ["a", "b", "c"]}
    evaluator.process(merged)
    right = logits.softmax(1).mean(0).argmax(0) == truth.data[0]
    figures = evaluator.evaluate(1)
    assert figures["aAcc"] == pytest.approx(100 * right.float().mean().item(), abs=5e-3)
    assert evaluator.metrics[0].coverage.unreadable == 0
