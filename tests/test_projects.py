"""The example projects run outside the repository, with the tools they name."""

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import mmdet
import pytest
import torch
from data_layouts import make_ade20k, make_coco
from mmengine.config import Config
from shrink import shrink

import mmrev
from mmrev.models.backbones import SwinTransformerV2

ROOT = Path(__file__).parent.parent
TOOL = ".mim/tools/train.py"


def copy_project(name: str, folder: Path) -> Path:
    """Copy a project; return its one config."""
    shutil.copytree(ROOT / "projects" / name, folder, dirs_exist_ok=True)
    (config,) = (folder / "configs").glob("*.py")
    return config


def train(package, config: Path, *changes: str) -> str:
    """Train with the tool that a package ships; return what it printed."""
    folder = config.parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [
            *(sys.executable, str(Path(package.__path__[0]) / TOOL), config.name),
            *("--cfg-options", "default_hooks.logger.interval=1", *changes),
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run.stdout


@pytest.mark.ci
@pytest.mark.slow
def test_mmdet_project_trains_with_the_tool_of_mmdet(tmp_path):
    config = Config.fromfile(copy_project("example_mmdet", tmp_path))
    assert config.model.type == "DINO"
    assert config.model.backbone.type == "mmrev.RevCol"
    assert "custom_imports" not in config
    make_coco(tmp_path)
    small = tmp_path / "small.py"
    shrink(config).dump(small)
    changes = ("train_cfg.max_epochs=1", "train_cfg.val_interval=2")
    printed = train(mmdet, small, *changes)
    assert "loss_bbox" in printed
    assert (tmp_path / "work_dirs/small/epoch_1.pth").exists()


@pytest.mark.ci
@pytest.mark.slow
def test_mmseg_project_trains_with_the_tool_of_mmrev(tmp_path):
    config = Config.fromfile(copy_project("example_mmseg", tmp_path))
    assert config.model.decode_head.type == "Mask2FormerHead"
    assert config.model.backbone.type == "mmrev.RevCol"
    make_ade20k(tmp_path)
    small = tmp_path / "small.py"
    shrink(config).dump(small)
    # Four images do not show 150 classes.
    changes = ("train_cfg.max_iters=1", "train_cfg.val_interval=2")
    changes += ("absent_classes=said",)
    printed = train(mmrev, small, *changes)
    assert "decode.loss_mask" in printed
    assert (tmp_path / "work_dirs/small/iter_1.pth").exists()


@pytest.mark.parametrize("name", ["example_mmdet", "example_mmseg"])
def test_readme_names_the_config_and_only_what_exists(name):
    project = ROOT / "projects" / name
    (config,) = (project / "configs").glob("*.py")
    text = (project / "README.md").read_text()
    paths = set(re.findall(r"(?<![\w/])configs/[\w./-]+\.py", text))
    assert paths == {f"configs/{config.name}"}


@pytest.fixture
def variants(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "projects/swin_v2_on_scenes")
    return import_module("variants")


@pytest.mark.parametrize("changed", ["nothing", "norms", "stem", "mlp"])
def test_variants_of_swin_v2(variants, changed):
    """Each has all levels, and differs from the published one where it says."""
    arch = {"embed_dims": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
    torch.manual_seed(0)
    model = variants.SwinVariant(changed, arch=arch, window_size=4)
    torch.manual_seed(0)
    plain = SwinTransformerV2(arch=arch, window_size=4)
    for one in (model, plain):
        torch.manual_seed(1)
        one.init_weights()
    levels = model(torch.rand(1, 3, 64, 64))
    assert [level.shape[1:] for level in levels] == [
        (8 << i, 16 >> i, 16 >> i) for i in range(4)
    ]
    ours, theirs = model.state_dict(), plain.state_dict()
    renamed = ours.keys() ^ theirs.keys()
    if changed in ("stem", "mlp"):  # whose layers draw other random numbers
        place = {"stem": "stem.", "mlp": "fc1."}[changed]
        assert renamed and all(place in key for key in renamed)
        return
    assert not renamed
    other = {key for key in ours if not ours[key].equal(theirs[key])}
    assert bool(other) == (changed == "norms")
    assert all(key.endswith("norm.weight") for key in other)


def test_an_unknown_variant_is_refused(variants):
    message = "changed must be one of nothing, norms, stem, mlp, got 'stems'"
    with pytest.raises(ValueError, match=message):
        variants.SwinVariant("stems")
