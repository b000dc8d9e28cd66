"""Predictions in batches of one size against those of one image at a time.

In double precision, in which nothing that is nearly equal changes places.
"""

from copy import deepcopy

import data_layouts
import pytest
import torch
from data_layouts import make_ade20k, make_coco
from mmengine.registry import MODELS
from mmengine.runner import Runner
from resolved import resolve, use_scope
from shrink import shrink
from torch.testing import assert_close

DINO = "revcol/revcol-t_dino-4scale_8xb2-12e_coco"
MASKS = "revcol/revcol-t_mask2former_8xb2-lsj-50e_coco"
SEGMENTOR = "revcol/revcol-t_mask2former_8xb2-160k_ade20k-512x512"
SIZES = [(96, 64), (64, 96), (96, 64), (48, 32), (80, 80), (64, 96), (96, 64), (96, 64)]


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_layouts, "SIZES", SIZES)
        make_coco(root)
        make_ade20k(root)
        patch.chdir(root)
        yield


@torch.no_grad()
def predictions(cfg, batch_size, padded="never"):
    """Of each image by name, and the sizes of the batches."""
    use_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(deepcopy(cfg.model))
    model.init_weights()
    model.double().eval()
    loader = dict(cfg.test_dataloader, batch_size=batch_size)
    if padded == "where sizes differ":
        loader["batch_sampler"] = None
    found, counts = {}, []
    for batch in Runner.build_dataloader(loader):
        counts.append(len(batch["inputs"]))
        for sample in model.test_step(batch):
            assert sample.img_path not in found
            found[sample.img_path] = sample
    return found, counts


def assert_same_instances(one, other):
    assert one.keys() == other.keys()
    for path, sample in one.items():
        found, expected = sample.pred_instances, other[path].pred_instances
        assert torch.equal(found.labels, expected.labels)
        assert_close(found.scores, expected.scores, rtol=1e-6, atol=1e-8)
        assert_close(found.bboxes, expected.bboxes, rtol=1e-5, atol=1e-4)
        if "masks" in expected:
            assert torch.equal(found.masks, expected.masks)


SLOW = [pytest.mark.slow, pytest.mark.ci]


@pytest.mark.parametrize("name", [DINO, pytest.param(MASKS, marks=SLOW)])
def test_detectors(name):
    cfg = shrink(resolve(name))
    single, _ = predictions(cfg, 1)
    together, counts = predictions(cfg, 4)
    assert counts == [4, 2, 1, 1] and len(together) == len(SIZES)
    assert_same_instances(together, single)
    if name == DINO:  # what it is for
        padded, _ = predictions(cfg, 4, "where sizes differ")
        with pytest.raises(AssertionError):
            assert_same_instances(padded, single)


@pytest.mark.parametrize("mode", ["whole", pytest.param("slide", marks=SLOW)])
def test_segmentors(mode):
    cfg = shrink(resolve(SEGMENTOR))
    cfg.model.test_cfg = dict(mode=mode, crop_size=(48, 48), stride=(32, 32))
    single, _ = predictions(cfg, 1)
    together, counts = predictions(cfg, 4)
    assert max(counts) == 4 and together.keys() == single.keys()
    for path, sample in together.items():
        expected = single[path]
        assert sample.ori_shape == expected.ori_shape == sample.pred_sem_seg.shape
        assert torch.equal(sample.pred_sem_seg.data, expected.pred_sem_seg.data)
        assert_close(sample.seg_logits.data, expected.seg_logits.data)
