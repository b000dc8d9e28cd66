"""DINO on images with fewer tokens than queries, and with fewer detections."""

from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from shrink import shrink
from torch.testing import assert_close

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

    def call(num_queries, max_per_img=300, num_classes=2):
        cfg = Config(config.to_dict()).model
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


def batch(height=80, width=96):
    generator = torch.Generator().manual_seed(3)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1, 1)
        )
    )
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[4.0, 4.0, 40.0, 30.0], [10.0, 8.0, 30.0, 44.0]]),
        labels=torch.tensor([0, 1]),
    )
    size = 3, height, width
    image = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    return {"inputs": [image], "data_samples": [sample]}


@torch.no_grad()
def detect(model, data):
    return model.eval().test_step(data)[0].pred_instances


def losses(model):
    torch.manual_seed(4)
    data = model.data_preprocessor(batch(), training=True)
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
