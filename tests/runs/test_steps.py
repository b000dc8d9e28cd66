"""The edits of a config: which optimizer wrapper --amp takes."""

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config

from mmrev.errors import UserError
from mmrev.registry import OPTIM_WRAPPERS
from mmrev.runs.steps import use_amp


@pytest.mark.parametrize(
    ("given", "on_gpu", "expected"),
    [
        ("OptimWrapper", True, "AmpOptimWrapper"),
        ("OptimWrapper", False, "mmrev.BFloat16OptimWrapper"),
        ("mmrev.AGCOptimWrapper", True, "mmrev.AGCAmpOptimWrapper"),
        ("mmrev.AGCOptimWrapper", False, "mmrev.AGCBFloat16OptimWrapper"),
        ("mmrev.SAMOptimWrapper", True, "mmrev.SAMAmpOptimWrapper"),
        ("mmrev.SAMOptimWrapper", False, "mmrev.SAMBFloat16OptimWrapper"),
        ("AmpOptimWrapper", False, "AmpOptimWrapper"),
        ("mmrev.AGCAmpOptimWrapper", False, "mmrev.AGCAmpOptimWrapper"),
    ],
)
def test_half_precision_form_of_the_wrapper(given, on_gpu, expected, monkeypatch):
    cfg = Config({"optim_wrapper": {"type": given}})
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: on_gpu)
        use_amp(cfg, Namespace(amp=True))
    assert cfg.optim_wrapper.type == expected
    assert OPTIM_WRAPPERS.get(expected) is not None
    assert ("loss_scale" in cfg.optim_wrapper) == (on_gpu and given != expected)


def test_others_have_none():
    cfg = Config({"optim_wrapper": {"type": "ApexOptimWrapper"}})
    with pytest.raises(UserError, match=r"--amp: expected .*got ApexOptimWrapper"):
        use_amp(cfg, Namespace(amp=True))
