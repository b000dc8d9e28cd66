"""DINO and Mask2Former in parts: training steps of the whole, and predictions."""

import math
import os
from pathlib import Path

import data_layouts
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner
from resolved import resolve, use_scope
from shrink import shrink
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mmrev.engine.strategies import FSDP2Strategy
from mmrev.engine.strategies.fsdp2 import gathered

CONFIGS = Path(__file__).parents[3] / "configs"
HEADS = {
    "revcol/revcol-t_dino-4scale_8xb2-12e_coco.py": (
        "DeformableDetrTransformerDecoderLayer"
    ),
    "swin_v2/swinv2-t_mask2former_8xb2-160k_ade20k-512x512.py": (
        "Mask2FormerTransformerDecoderLayer"
    ),
}


def is_sharded(module):
    return all(isinstance(p, DTensor) for p in module.parameters())


def step_and_predictions(rank, folder, config):
    os.chdir(folder)
    cfg = shrink(resolve(CONFIGS / config))
    use_scope(cfg.default_scope)
    strategy = FSDP2Strategy()
    with strategy.building():
        model = MODELS.build(cfg.model)
    if rank == 0:
        model.init_weights()
    model = strategy.shard(model).train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = [p.full_tensor().clone() for p in model.parameters()]
    # Another image in each process, and so other shapes.
    cfg.train_dataloader.update(batch_size=1, sampler=dict(type="DefaultSampler"))
    cfg.train_dataloader.pop("batch_sampler", None)
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=rank)))
    losses = model.train_step(batch, wrapper)
    assert is_sharded(model)
    after = [p.full_tensor() for p in model.parameters()]
    moved = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]

    batch = next(iter(Runner.build_dataloader(cfg.val_dataloader)))
    model.eval()
    with torch.no_grad(), gathered(model):
        # Not as many passes in one process as in the other.
        for _ in range(1 + rank):
            predictions = model.val_step(batch)
        assert not any(isinstance(p, DTensor) for p in model.parameters())
    assert is_sharded(model)
    model.train().train_step(
        next(iter(Runner.build_dataloader(cfg.train_dataloader))), wrapper
    )
    units = [type(m).__name__ for m in model.modules() if isinstance(m, FSDPModule)]
    losses = {name: loss.item() for name, loss in losses.items()}
    return losses, sum(moved) / len(moved), len(predictions), units


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("config", HEADS)
def test_a_step_and_predictions(config, process_pair, tmp_path):
    make = data_layouts.make_coco if "coco" in config else data_layouts.make_ade20k
    make(tmp_path)
    for losses, moved, count, units in process_pair.run(
        step_and_predictions, tmp_path, config
    ):
        assert all(map(math.isfinite, losses.values()))
        assert moved > 0.5 and count >= 1
        assert f"FSDP{HEADS[config]}" in units and len(units) > 8
