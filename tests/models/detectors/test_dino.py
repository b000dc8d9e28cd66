"""DINO on images with few tokens, with few detections, and with many boxes."""

from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from shrink import shrink
from torch.testing import assert_close

from mmrev.measure.memory import peak_memory
from mmrev.models.detectors import dino
from mmrev.registry import MODELS

CONFIG = "configs/nfnet/nfnet-f0_dino-4scale_8xb2-12e_coco.py"
TOKENS = 10 * 12 + 5 * 6 + 3 * 3 + 2 * 2
"""Of an image of 80x96 pixels, at strides 8, 16, 32 and 64."""


@pytest.fixture(scope="module")
def config():
    return shrink(Config.fromfile(Path(__file__).parents[3] / CONFIG))


@pytest.fixture
def build(config):
    """Models of one seed, but for the number of queries."""
    DefaultScope.get_instance("test-dino", scope_name="mmdet")
    weights = torch.randn(900, 256, generator=torch.Generator().manual_seed(2))

    def call(num_queries, max_per_img=300, num_classes=2, **changed):
        cfg = Config(config.to_dict()).model
        cfg.update(changed)
        cfg.num_queries, cfg.test_cfg.max_per_img = num_queries, max_per_img
        cfg.bbox_head.num_classes = num_classes
        torch.manual_seed(0)
        model = MODELS.build(cfg)
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if name != "query_embedding.weight":
                torch.nn.init.normal_(parameter, std=0.05)
        model.query_embedding.weight.data = weights[:num_queries].clone()
        return model

    return call


def batch(height=80, width=96, boxes=2):
    generator = torch.Generator().manual_seed(3)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1, 1)
        )
    )
    corners = torch.tensor([[4.0, 4.0, 40.0, 30.0], [10.0, 8.0, 30.0, 44.0]])
    index = torch.arange(boxes)
    sample.gt_instances = InstanceData(
        bboxes=corners[index % 2] + index[:, None] // 2 % 30, labels=index % 2
    )
    size = 3, height, width
    image = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [sample]}


@torch.no_grad()
def detect(model, data):
    return model.eval().test_step(data)[0].pred_instances


def losses(model, *counts):
    """Of images with so many boxes."""
    torch.manual_seed(4)
    batches = [batch(boxes=count) for count in counts or [2]]
    data = {key: [one[key][0] for one in batches] for key in batches[0]}
    data = model.data_preprocessor(data, training=True)
    return model.train()(**data, mode="loss")


def test_every_token_becomes_a_query(build):
    many, as_many = build(900), build(TOKENS)
    found, expected = detect(many, batch()), detect(as_many, batch())
    assert len(found) == 300
    for key in ("bboxes", "scores", "labels"):
        assert torch.equal(found[key], expected[key])
    assert many.num_queries == len(many.query_embedding.weight) == 900


def test_training_with_too_few_tokens(build):
    many, as_many = build(900), build(TOKENS)
    found, expected = losses(many), losses(as_many)
    assert_close(found, expected, rtol=0, atol=0)
    for model, terms in ((many, found), (as_many, expected)):
        model.parse_losses(terms)[0].backward()
    gradient = many.query_embedding.weight.grad
    assert torch.equal(gradient[:TOKENS], as_many.query_embedding.weight.grad)
    assert gradient[:TOKENS].any() and not gradient[TOKENS:].any()


def test_strip(build):
    """7350x150, as the config's own resize leaves it."""
    data = batch(27, 1333)
    tokens = 4 * 167 + 2 * 84 + 42 + 21
    assert len(detect(build(900, max_per_img=1800), data)) == 2 * tokens == 1798


@pytest.mark.parametrize(("queries", "classes"), [(30, 2), (20, 1)])
def test_no_more_detections_than_there_are(build, queries, classes):
    most = queries * classes
    found = detect(build(queries, 300, classes), batch())
    expected = detect(build(queries, most, classes), batch())
    assert len(found) == most
    assert torch.equal(found.scores, expected.scores)


def denoising(terms, wanted=True):
    return {name: x for name, x in terms.items() if ("dn_" in name) == wanted}


def in_order(count, **_):
    return torch.arange(count)


def test_denoises_some_boxes_and_matches_all(build, monkeypatch):
    plain, capped = build(20), build(20, max_denoised_boxes=3)
    expected = losses(plain, 3, 2)
    assert_close(losses(capped, 3, 2), expected, rtol=0, atol=0)
    # The first of them, and without a draw, so that noise is the same.
    monkeypatch.setattr(torch, "randperm", in_order)
    found = losses(capped, 9, 2)
    assert_close(denoising(found), denoising(expected))
    assert_close(denoising(found, False), denoising(losses(plain, 9, 2), False))
    capped.parse_losses(found)[0].backward()
    assert capped.dn_query_generator.label_embedding.weight.grad.any()


def test_other_boxes_in_every_step_with_their_labels():
    sample = batch(boxes=40)["data_samples"][0]
    whole = {
        (*box, label)
        for box, label in zip(
            sample.gt_instances.bboxes.tolist(),
            sample.gt_instances.labels.tolist(),
            strict=True,
        )
    }
    torch.manual_seed(0)
    steps = []
    for _ in range(2):
        part = dino._some_objects(sample, 10)
        assert part.img_shape == sample.img_shape
        found = part.gt_instances
        pairs = zip(found.bboxes.tolist(), found.labels.tolist(), strict=True)
        steps.append({(*box, label) for box, label in pairs})
    assert len(steps[0]) == len(steps[1]) == 10
    assert steps[0] <= whole and steps[1] <= whole and steps[0] != steps[1]
    assert len(sample.gt_instances) == 40


def test_a_crowded_image_beside_an_empty_one(build):
    model = build(20, max_denoised_boxes=4)
    terms = losses(model, 0, 30)
    assert all(term.isfinite().all() for term in terms.values())
    model.parse_losses(terms)[0].backward()


def test_memory_does_not_grow_with_boxes(build):
    def peak(model, boxes):
        def step():
            model.parse_losses(losses(model, boxes))[0].backward()

        step()  # gradients are there from the second one on
        return peak_memory(step)

    plain, capped = build(20), build(20, max_denoised_boxes=5)
    few = peak(capped, 5)
    assert peak(capped, 50) < 1.2 * few and peak(capped, 300) < 1.2 * few
    assert peak(plain, 300) > 2 * few


@pytest.mark.parametrize("most", [0, -1, 2.0, True, "all"])
def test_a_number_of_boxes(build, most):
    with pytest.raises(ValueError, match=rf"1 or more, or None for all, got {most!r}"):
        build(20, max_denoised_boxes=most)


def test_the_head_must_know_which_boxes(config):
    cfg = Config(config.to_dict()).model
    cfg.bbox_head.type = "mmdet.DINOHead"
    with pytest.raises(ValueError, match=r"='mmrev\.DINOHead', got DINOHead of mmdet"):
        MODELS.build(dict(cfg, max_denoised_boxes=5))
