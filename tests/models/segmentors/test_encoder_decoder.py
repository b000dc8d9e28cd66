"""Slide inference against the average of windows predicted one by one."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.structures import SegDataSample
from shrink import shrink
from torch.testing import assert_close

from mmrev.registry import MODELS

CONFIG = "configs/nfnet/nfnet-f0_mask2former_8xb2-160k_ade20k-512x512.py"


@pytest.fixture(scope="module")
def config():
    return shrink(Config.fromfile(Path(__file__).parents[3] / CONFIG))


@pytest.fixture
def model(config):
    DefaultScope.get_instance("test-slide", scope_name="mmseg")
    torch.manual_seed(0)
    return MODELS.build(config.model).eval()


def batch(height, width, **meta):
    """Two images as the test's pipeline gives them, with the shapes of both."""
    generator = torch.Generator().manual_seed(1)
    size = 2, 3, height, width
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (height, width))
    return {
        "inputs": list(images),
        "data_samples": [SegDataSample(metainfo={**shapes, **meta}) for _ in images],
    }


@torch.no_grad()
def logits(model, data):
    return torch.stack([one.seg_logits.data for one in model.test_step(data)])


def slide(model, crop, stride):
    model.test_cfg.update(mode="slide", crop_size=crop, stride=stride)


@pytest.mark.parametrize("crop", [(64, 96), (100, 100)], ids=["equal", "larger"])
def test_one_window_is_the_whole_image(model, crop):
    """The config pads 64x80 to a multiple of 32."""
    whole = logits(model, batch(64, 80))
    slide(model, crop, (32, 32))
    assert torch.equal(logits(model, batch(64, 80)), whole)


def test_windows_are_averaged(model):
    size, crop = (64, 96), (64, 64)
    data = batch(*size)
    images = torch.stack(data["inputs"])
    expected, count = torch.zeros(2, 150, *size), torch.zeros(*size)
    for left in (0, 32):  # the second window ends at the edge
        window = {**batch(*crop), "inputs": list(images[..., left : left + 64])}
        expected[..., left : left + 64] += logits(model, window)
        count[:, left : left + 64] += 1
    slide(model, crop, (48, 48))
    assert_close(logits(model, data), expected / count, rtol=1e-6, atol=1e-7)


def test_augmented_test_slides(model, config):
    slide(model, (64, 64), (48, 48))
    views = [
        batch(64, 96, img_path=""),
        batch(64, 64, img_path="", ori_shape=(64, 96)),
    ]
    tta = MODELS.build({**config.tta_model, "module": model}).eval()
    joined = {key: [view[key] for view in views] for key in views[0]}
    merged = torch.stack([one.pred_sem_seg.data for one in tta.test_step(joined)])
    expected = sum(logits(model, view).softmax(dim=1) for view in views).argmax(dim=1)
    assert torch.equal(merged.squeeze(1), expected)
