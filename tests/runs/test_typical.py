"""Batches as a config's training takes them."""

import tiny_configs
import torch
from mmengine.registry import MODELS
from resolved import use_scope

from mmrev.runs.config import load_config
from mmrev.runs.typical import training_batch


def test_masked_images(tmp_path):
    cfg = load_config(tiny_configs.write_simmim(tmp_path / "simmim.py"))
    use_scope(cfg.default_scope)
    cfg.model.data_preprocessor = cfg.data_preprocessor
    model = MODELS.build(cfg.model)
    batch = model.data_preprocessor(training_batch(cfg, (64, 96), 2), training=True)
    assert batch["inputs"].shape == (2, 3, 64, 96)
    mask = batch["data_samples"][0].mask
    assert mask.shape == (16, 24) and mask.float().mean() == 0.5
    losses = model(**batch, mode="loss")
    assert torch.isfinite(losses["loss"]) and losses["loss"] > 0
