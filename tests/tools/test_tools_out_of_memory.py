"""`tools/train.py` without memory: one line says what fits, checkpoints stay."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TOOLS

from mmrev.models.backbones import RevCol
from mmrev.registry import MODELS
from mmrev.runs import out_of_memory

LIMITED = """\
import importlib.util, resource, sys
from pathlib import Path
import mmrev.runs.run
from mmdet.utils import register_all_modules

if __name__ == "__main__":
    register_all_modules(False)
    spec = importlib.util.spec_from_file_location("train", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    module.main(sys.argv[3:])
"""
"""Trains in an address space that ends so many bytes above what imports take."""


@pytest.fixture
def planner_here(monkeypatch):
    """The planner in this process, where a test sees what it does."""

    def fitting(*args):
        return list(out_of_memory._fitting(*args))

    monkeypatch.setattr(out_of_memory, "_fitting_in_time", fitting)


class Full(RevCol):
    """Has no memory for two images in its third step."""

    steps = 0

    def forward(self, x):
        Full.steps += 1
        if Full.steps == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(x)


def full_config(name: str) -> str:
    Path(name).write_text(
        "_base_ = 'seg.py'\nmodel = dict(backbone=dict(type='mmrev.Full', "
        "memory='store'))\n"
    )
    return name


def test_says_what_fits_and_keeps_the_checkpoint(run, tmp_path, planner_here):
    Full.steps = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS.module_dict, "Full", Full)
        result = run("train", full_config("full.py"), "--work-dir", tmp_path)
    assert result.status == 1
    assert "Traceback" not in result.err
    assert re.search(
        r"error: iteration 3: out of memory on cpu, after \d\S* GB; there are \d\S* GB "
        r"for a training. The step had 2 images of 64x64 in memory=store. What fits: "
        r"0.0\d+ GB with model.backbone.memory=store train_dataloader.batch_size=1; "
        r"0.0\d+ GB with model.backbone.memory=recompute; 0.0\d+ GB with "
        r"model.backbone.memory=reverse. Go on with --resume.",
        result.err,
    )
    assert (tmp_path / "iter_2.pth").is_file()
    settings = ("--cfg-options", "model.backbone.memory=recompute")
    result = run("train", "seg.py", "--work-dir", tmp_path, "--resume", *settings)
    assert result.status == 0, result.err
    assert (tmp_path / "iter_4.pth").is_file()


def test_a_planner_without_time_names_the_tool(run, tmp_path, monkeypatch):
    Full.steps = 0
    monkeypatch.setattr(out_of_memory, "_SECONDS", 0.0)
    monkeypatch.setitem(MODELS.module_dict, "Full", Full)
    result = run("train", full_config("slow.py"), "--work-dir", tmp_path)
    assert result.status == 1
    assert re.search(
        r"What fits: python tools/plan.py slow.py --gpus 1 --memory \S+ says what does",
        result.err,
    )


@pytest.mark.slow
@pytest.mark.ci
def test_in_an_address_space_that_ends(project, tmp_path):
    (tmp_path / "limited.py").write_text(LIMITED)
    size = "train_dataloader.dataset.pipeline.2.{}".format
    command = [
        *(sys.executable, tmp_path / "limited.py", TOOLS / "train.py", 700_000_000),
        *("det.py", "--work-dir", tmp_path / "run", "--cfg-options"),
        *("model.backbone.memory=store", "train_dataloader.batch_size=4"),
        *(size("scale=(1024,1024)"), size("ratio_range=(1.0,1.0)")),
    ]
    done = subprocess.run(
        [str(word) for word in command], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1
    *_, last = done.stderr.strip().splitlines()
    assert re.match(
        r"error: iteration 1: out of memory on cpu, after .* The step had 4 images of "
        r"1024x1024 in memory=store. What fits: "
        # The second where the planner had not enough time.
        r"(\S+ GB with model.backbone.memory=|python tools/plan.py det.py)",
        last,
    )
