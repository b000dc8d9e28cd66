"""tools/train.py end to end."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from damaged import damage
from mmengine.config import Config

from mmrev.checkpoints import load_checkpoint_file

TRAIN = Path(__file__).parents[2] / "tools/train.py"


def losses(work_dir: Path) -> dict[int, float]:
    """Loss by step, over all runs of a work dir, the latest run winning."""
    found = {}
    for log in sorted(Path(work_dir).glob("*/vis_data/scalars.json")):
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            if "loss" in entry:
                found[entry["step"]] = entry["loss"]
    return found


def test_leaves_whole_checkpoints_and_a_full_log(project):
    folder = project / "work_dirs/det"
    assert (
        (folder / "last_checkpoint").read_text().endswith("work_dirs/det/epoch_2.pth")
    )
    saved = load_checkpoint_file(folder / "epoch_2.pth")
    assert saved["meta"]["epoch"] == 2 and saved["meta"]["seed"] == 3
    assert not list(folder.glob(".*"))
    (log,) = folder.glob("*/*.log")
    assert "System environment" in log.read_text()


def test_terminal_shows_progress_and_no_long_reports(run, tmp_path):
    result = run("train", "det.py", "--work-dir", tmp_path / "run")
    assert result.status == 0
    assert "Epoch(train) [2][2/2]" in result.out and "eta" in result.out
    for noise in ("System environment", "default_scope =", "Hooks will", "FileClient"):
        assert noise not in result.out
    assert result.err == ""


@pytest.mark.parametrize("config", ["det.py", "seg.py", "cls.py"])
def test_divergence_is_one_line(run, tmp_path, config):
    lr = "optim_wrapper.optimizer.lr=1e36"
    result = run("train", config, "--work-dir", tmp_path, "--cfg-options", lr)
    assert result.status == 1
    assert re.fullmatch(
        r"error: iteration 2: not finite: .*loss.*first in backbone\..*1e\+36.*\n",
        result.err,
    )
    assert {path.name for path in tmp_path.glob("*.pth")} <= {"iter_1.pth"}


def test_classification(run, tmp_path):
    result = run("train", "cls.py", "--work-dir", tmp_path / "run")
    assert result.status == 0
    tested = run("test", "cls.py", tmp_path / "run/epoch_2.pth", "--work-dir", tmp_path)
    assert tested.status == 0
    (record,) = (tmp_path / "records").glob("*.json")
    assert json.loads(record.read_text())["metrics"].keys() == {"accuracy/top1"}


@pytest.mark.parametrize("config", ["det.py", "seg.py"])
def test_amp_without_gpu_is_bfloat16(run, tmp_path, config, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("CPU only")
    from mmrev.models.backbones.revcol import RevCol

    seen = []
    forward = RevCol.forward
    monkeypatch.setattr(
        RevCol,
        "forward",
        lambda self, x: (
            seen.append(torch.get_autocast_dtype("cpu"))
            or seen.append(torch.is_autocast_enabled("cpu"))
            or forward(self, x)
        ),
    )
    assert run("train", config, "--amp", "--work-dir", tmp_path).status == 0
    assert seen[:2] == [torch.bfloat16, True]


@pytest.fixture
def as_before():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False


def test_an_op_that_is_not_deterministic(run, tmp_path, monkeypatch, as_before):
    from mmrev.models.backbones.revcol import RevCol

    forward = RevCol.forward

    def put(self, x):
        x.put_(torch.tensor([0]), torch.zeros(1))
        return forward(self, x)

    monkeypatch.setattr(RevCol, "forward", put)
    assert run("train", "det.py", "--work-dir", tmp_path / "plain").status == 0
    result = run("train", "det.py", "--work-dir", tmp_path / "run", "--deterministic")
    assert result.status == 1
    assert result.err == (
        "error: --deterministic: put_ cannot give the same bits in every run here; "
        "leave --deterministic out, or run on the CPU (CUDA_VISIBLE_DEVICES=-1).\n"
    )


def test_deterministic_runs_have_a_seed(run, tmp_path, as_before):
    options = ("--deterministic", "--cfg-options", "randomness.seed=None")
    result = run("train", "det.py", "--work-dir", tmp_path, *options)
    assert result.status == 0 and "(seed 0)" in result.out
    meta = load_checkpoint_file(tmp_path / "epoch_2.pth")["meta"]
    assert meta["deterministic"] is True
    assert "deterministic=True" in meta["cfg"].replace(" ", "")
    tested = run(
        *("test", "det.py", tmp_path / "epoch_2.pth"),
        *("--work-dir", tmp_path / "test", "--deterministic"),
    )
    assert tested.status == 0
    (record,) = (tmp_path / "test/records").glob("*.json")
    assert json.loads(record.read_text())["training"]["deterministic"] is True


def test_auto_scale_lr(run, tmp_path):
    options = ("--work-dir", tmp_path, "--auto-scale-lr")
    refused = run("train", "det.py", *options)
    assert refused.status == 1 and "base_batch_size" in refused.err
    base = "auto_scale_lr.base_batch_size=4"
    assert run("train", "det.py", *options, "--cfg-options", base).status == 0
    state = load_checkpoint_file(tmp_path / "epoch_2.pth")["optimizer"]
    assert state["param_groups"][0]["lr"] == pytest.approx(0.5e-3)


@pytest.mark.parametrize(
    ("config", "length", "first", "loader"),
    [
        ("det.py", "max_epochs", "epoch_1.pth", {"num_workers": 1}),
        pytest.param(
            *("det_iterations.py", "max_iters", "iter_2.pth", {}),
            marks=[pytest.mark.ci, pytest.mark.slow],
        ),
    ],
)
def test_resumed_run_repeats_the_uninterrupted_one(
    run, tmp_path, config, length, first, loader
):
    options = ["default_hooks.checkpoint.max_keep_ckpts=5"]
    options += [f"train_dataloader.{key}={value}" for key, value in loader.items()]
    common = ("--cfg-options", *options)
    assert run("train", config, "--work-dir", tmp_path / "whole", *common).status == 0
    stop = f"train_cfg.{length}={int(first.split('_')[1][0])}"
    half = ("train", config, "--work-dir", tmp_path / "halved", "--resume", *common)
    assert run(*half, stop).status == 0
    result = run(*half)
    assert result.status == 0 and first in result.out
    whole, halved = losses(tmp_path / "whole"), losses(tmp_path / "halved")
    assert len(whole) == 4 and len(set(whole.values())) == 4
    assert halved == whole


def test_resume_without_a_seed_takes_the_checkpoints(run, tmp_path):
    common = ("train", "det_iterations.py", "--work-dir", tmp_path, "--cfg-options")
    run(*common, "randomness.seed=None", "train_cfg.max_iters=2")
    seed = load_checkpoint_file(tmp_path / "iter_2.pth")["meta"]["seed"]
    run(*common, "randomness.seed=None", "--resume")
    assert load_checkpoint_file(tmp_path / "iter_4.pth")["meta"]["seed"] == seed
    assert f"seed {seed}" in run(*common, f"randomness.seed={seed}").out


def test_resume_passes_over_what_is_no_checkpoint(run, project, tmp_path):
    whole = (project / "work_dirs/det/epoch_1.pth").read_bytes()
    (tmp_path / "epoch_1.pth").write_bytes(whole)
    (tmp_path / "epoch_2.pth").write_bytes(whole[: len(whole) // 2])
    middle = len(whole) // 2
    zeroed = whole[:middle] + bytes(64) + whole[middle + 64 :]
    (tmp_path / "epoch_3.pth").write_bytes(zeroed)
    torch.save({"state_dict": {}}, tmp_path / "best_coco.pth")
    for age, name in enumerate(("best_coco", "epoch_3", "epoch_2", "epoch_1")):
        os.utime(tmp_path / f"{name}.pth", (1e9 - age, 1e9 - age))
    result = run("train", "det.py", "--work-dir", tmp_path, "--resume", "auto")
    assert result.status == 0
    said = [line for line in result.out.splitlines() if line.startswith("resume:")]
    assert "best_coco.pth holds no meta, optimizer" in said[0]
    assert "epoch_3.pth" in said[1]
    assert "epoch_2.pth cannot be read" in said[2]
    assert "epoch_1.pth (epoch 1, iteration 2)" in said[3]


@pytest.fixture
def disk(tmp_path):
    """A small disk; `disk(size)` makes it one of so many bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount")

    def resize(size: int) -> Path:
        options = f"remount,size={size}"
        subprocess.run(["mount", "-o", options, str(folder)], check=True)
        return folder

    yield resize
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_one_checkpoint(run, project, disk):
    """The second one does not fit beside the first, which goes only after it."""
    size = (project / "work_dirs/det/epoch_1.pth").stat().st_size
    folder = disk(int(1.5 * size))
    keep = "default_hooks.checkpoint.max_keep_ckpts=1"
    command = ("train", "det.py", "--work-dir", folder, "--cfg-options", keep)
    result = run(*command)
    assert result.status == 1
    assert result.err == (
        f"error: No space left on device: {folder}/epoch_2.pth; free some space, then "
        "continue with --resume.\n"
    )
    assert {path.name for path in folder.glob("*.pth*")} == {
        "epoch_1.pth",
        "epoch_1.pth.sha256",
    }
    assert not list(folder.glob(".*"))
    disk(4 * size)
    result = run(*command, "--resume")
    assert result.status == 0 and "epoch_1.pth (epoch 1, iteration 2)" in result.out
    assert [path.name for path in folder.glob("*.pth")] == ["epoch_2.pth"]


def test_resume_with_nothing_there_starts_anew(run, tmp_path):
    result = run("train", "det.py", "--work-dir", tmp_path / "new", "--resume")
    assert result.status == 0
    assert f"no checkpoint in {tmp_path / 'new'}; starting anew" in result.out
    assert "[1][1/2]" in result.out


def test_resume_needs_an_optimizer_and_the_same_model(run, project, tmp_path):
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "weights.pth")
    result = run("train", "det.py", "--resume", tmp_path / "weights.pth")
    assert result.status == 1 and "holds no optimizer" in result.err
    shutil.copy(project / "work_dirs/seg/iter_4.pth", tmp_path)
    options = ("--work-dir", tmp_path, "--resume")
    result = run("train", "det_iterations.py", *options)
    assert result.status == 1 and "iter_4.pth does not fit" in result.err


def test_custom_settings_survive(run, tmp_path):
    result = run(
        *("train", "det.py", "--work-dir", tmp_path, "--cfg-options"),
        *("default_hooks.checkpoint.max_keep_ckpts=1", "randomness.seed=5"),
    )
    assert result.status == 0
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_2.pth"]
    dumped = Config.fromfile(tmp_path / "det.py")
    assert dumped.default_hooks.checkpoint.type == "mmrev.AtomicCheckpointHook"
    assert dumped.randomness.seed == 5


@pytest.mark.ci
@pytest.mark.slow
def test_two_processes_on_the_cpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("CPU only")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        *("--standalone", TRAIN, "det_iterations.py", "--launcher", "pytorch"),
        *("--work-dir", tmp_path, "--cfg-options", "train_cfg.max_iters=2"),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[:3000]
    assert done.stdout.count("Saving checkpoint at 2 iterations") == 1
    (log,) = tmp_path.glob("*/*.log")
    assert "Distributed training: True" in log.read_text()
    assert "GPU number: 2" in log.read_text()
    assert load_checkpoint_file(tmp_path / "iter_2.pth")["meta"]["iter"] == 2


def test_a_share_of_the_images_may_be_unreadable(run, project, tmp_path):
    """And the record of what was trained says how many were."""
    shutil.copytree(project / "data/coco", tmp_path / "coco")
    images = sorted((tmp_path / "coco/train2017").iterdir())
    damage(images[1], "truncated")
    options = [
        f"train_dataloader.dataset.data_root={tmp_path}/coco/",
        "train_dataloader.num_workers=2",
    ]
    common = ("--work-dir", tmp_path / "run", "--cfg-options", *options)
    refused = run("train", "det.py", *common, "unreadable_images=0.2")
    assert refused.status == 1
    assert "expected at most 0 of 4 training images (0.2), got 1: " in refused.err
    trained = run("train", "det.py", *common, "unreadable_images=0.3")
    assert trained.status == 0, trained.err
    assert f"skipped, as it cannot be read: {images[1]} (a damaged one: " in trained.out
    weights = tmp_path / "run/epoch_2.pth"
    assert run("test", "det.py", weights, "--work-dir", tmp_path).status == 0
    (path,) = (tmp_path / "records").glob("*.json")
    record = json.loads(path.read_text())
    assert record["training"]["skipped"] == {"images": 1, "total": 4, "draws": 2}
    listed = run("leaderboard", "list", tmp_path / "records")
    assert "det (without 1 of 4 training images)" in listed.out
