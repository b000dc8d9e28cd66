"""What runs of the suite's heads leave on a terminal."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.visualization import Visualizer
from shrink import shrink

from mmrev.console import quiet

CONFIGS = Path(__file__).parents[2] / "configs"
LENGTHS = {
    "nfnet/nfnet-f0_dino-4scale_8xb2-12e_coco": {"max_epochs": 1},
    "nfnet/nfnet-f0_mask2former_8xb2-160k_ade20k-512x512": {"max_iters": 2},
    "revcol/revcol-t_upernet_8xb2-amp-160k_ade20k-512x512": {"max_iters": 2},
    "reducenet/reducenet-18_dino-4scale_8xb2-12e_coco": {"max_epochs": 1},
}


DINO, MASK2FORMER, UPERNET, REDUCENET = LENGTHS
_LONGER = [pytest.mark.ci, pytest.mark.slow]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(DINO, id="dino"),
        pytest.param(MASK2FORMER, id="mask2former", marks=_LONGER),
        pytest.param(UPERNET, id="upernet", marks=_LONGER),
        pytest.param(REDUCENET, id="reducenet", marks=_LONGER),
    ],
)
def test_shows_what_its_reader_can_act_on(run, tmp_path, recwarn, name):
    """Trains with accumulated gradients, and validates."""
    cfg = shrink(Config.fromfile(CONFIGS / f"{name}.py"))
    (length,) = LENGTHS[name].values()
    cfg.train_cfg.update(LENGTHS[name], val_interval=length)
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.param_scheduler = [{"type": "PolyLR", "end": 9, "by_epoch": False}]
    cfg.default_hooks.logger.interval = 1
    cfg.absent_classes = "said"
    cfg.dump(tmp_path / "small.py")
    recwarn.clear()
    result = run("train", tmp_path / "small.py", "--work-dir", tmp_path / "run")
    assert result.status == 0
    # Python shows none of files that an earlier test left open.
    shown = [str(one.message) for one in recwarn if one.category is not ResourceWarning]
    fades = ["ReduceNet is evaluated at fade 1"] if name == REDUCENET else []
    assert [one.partition(":")[0] for one in shown] == fades
    assert result.err == ""
    # A line of the log, or of a table in it.
    title, *lines = result.out.splitlines()
    assert title.startswith(f"{tmp_path / 'small.py'} -> ")
    strange = [line for line in lines if line and " - mmengine - " not in line]
    assert [line for line in strange if line[0] not in "+|"] == []
    for noise in ("Parameter groups", "OneDL"):
        assert noise not in result.out


def test_boxes_that_are_drawn_beyond_the_rim_are_no_news(recwarn):
    quiet()
    visualizer = Visualizer(image=np.zeros((8, 8, 3), np.uint8))
    visualizer.draw_bboxes(torch.tensor([[0, 0, 20, 20]]))
    assert recwarn.list == []
