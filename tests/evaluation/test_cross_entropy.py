"""The validation loss is that of torch, and says what it cannot be of."""

import pytest
import torch
import torch.nn.functional as F
from mmpretrain.structures import DataSample

from mmrev.evaluation.cross_entropy import CrossEntropyMetric


def samples(logits, labels):
    scores = logits.softmax(1)
    return [
        DataSample().set_gt_label(label).set_pred_score(score).to_dict()
        for label, score in zip(labels.tolist(), scores, strict=True)
    ]


def test_equals_the_loss_of_all_images():
    torch.manual_seed(0)
    logits, labels = torch.randn(7, 5), torch.randint(5, (7,))
    metric = CrossEntropyMetric()
    for part in (slice(0, 4), slice(4, 7)):
        metric.process({}, samples(logits[part], labels[part]))
    expected = F.cross_entropy(logits, labels).item()
    assert metric.evaluate(7) == {"cross_entropy": pytest.approx(expected)}


def test_a_score_of_zero_has_a_finite_loss():
    metric = CrossEntropyMetric()
    metric.process({}, samples(torch.tensor([[0.0, -1e4]]), torch.tensor([1])))
    assert 80 < metric.evaluate(1)["cross_entropy"] < 100


def test_several_classes_of_an_image_are_refused():
    sample = DataSample().set_gt_label([0, 1]).set_pred_score(torch.ones(3) / 3)
    with pytest.raises(ValueError, match="expected one class an image, got 2"):
        CrossEntropyMetric().process({}, [sample.to_dict()])
