"""A training without memory says what would fit, and loses nothing."""

from pathlib import Path

import pytest
import tiny_configs
import torch
from fake_trial import FakeTrial

from mmrev.runs import out_of_memory
from mmrev.runs.out_of_memory import is_out_of_memory

ROOT = Path(__file__).parents[2]


def test_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


KEY = "model.backbone.memory"


@pytest.mark.parametrize(
    ("budget", "ways"),
    [
        (11, [f"10 GB with {KEY}=recompute", f"8 GB with {KEY}=store {{half}}"]),
        (
            8.5,
            [
                f"5 GB with {KEY}=recompute {{half}}",
                f"8 GB with {KEY}=store {{half}}",
                f"2 GB with {KEY}=recompute head_memory=recompute",
                f"8 GB with {KEY}=store head_memory=recompute",
            ],
        ),
    ],
)
def test_the_head_where_the_backbone_does_not_do(tmp_path, monkeypatch, budget, ways):
    monkeypatch.setattr(out_of_memory, "Trial", FakeTrial)
    monkeypatch.setattr(out_of_memory, "memory_of", lambda model: ["store"])
    config = tiny_configs.write_detection(tmp_path / "det.py")
    found = out_of_memory._fitting(config, (64, 64), 2, budget * 1e9, "none", 1)
    half = "train_dataloader.batch_size=1"
    assert list(found) == [way.format(half=half) for way in ways]
