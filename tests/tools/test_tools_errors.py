"""A user's mistake is one line that names it; a bug keeps its traceback."""

import errno
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.error import URLError

import pytest
import torch
from mmdet.models import RetinaHead
from PIL import Image

import mmrev.atomic
from mmrev.errors import explain

TOOLS = Path(__file__).parents[2] / "tools"
DET = "work_dirs/det/epoch_2.pth"
SEG = "work_dirs/seg/iter_4.pth"


@pytest.fixture
def refused(run, tmp_path):
    """Run a tool that must fail; return its one line."""

    def call(tool: str, *argv: str | Path) -> str:
        if "--work-dir" not in argv:
            argv = (*argv, "--work-dir", tmp_path / "run")
        result = run(tool, *argv)
        assert result.status == 1
        (line,) = result.err.splitlines()
        assert line.startswith("error: ")
        assert "Traceback" not in result.out
        return line

    return call


@pytest.fixture
def variant(project, tmp_path):
    """Write a config that differs from another by some replaced text."""

    def write(config: str, **replaced: str) -> Path:
        text = (project / config).read_text()
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / config
        path.write_text(text)
        return path

    return write


def test_missing_config(refused):
    line = refused("train", "dett.py")
    assert "config not found: dett.py; did you mean 'det.py'?" in line


def test_broken_config(refused, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("model = dict(\n")
    assert f"config {path}: SyntaxError" in refused("train", path)
    path.write_text("_base_ = './nowhere.py'\n")
    assert "nowhere.py" in refused("train", path)


@pytest.mark.parametrize(
    ("config", "missing", "key"),
    [
        ("det.py", "data/coco", "data_root"),
        ("det.py", "data/coco/annotations/instances_train2017.json", "ann_file"),
        ("det.py", "data/coco/train2017", "data_prefix.img"),
        ("seg.py", "data/ade/ADEChallengeData2016", "data_root"),
        ("seg.py", "data/ade/ADEChallengeData2016/images/training", "img_path"),
        ("seg.py", "data/ade/ADEChallengeData2016/annotations/training", "seg_map"),
    ],
)
def test_missing_data(refused, project, config, missing, key):
    hidden = project / "hidden"
    (project / missing).rename(hidden)
    try:
        line = refused("train", config)
    finally:
        hidden.rename(project / missing)
    assert f"data not found: {missing}" in line.replace("//", "/")
    assert f"train_dataloader.dataset.{key}" in line or key in line


def test_damaged_annotations(refused, project):
    path = project / "data/coco/annotations/instances_train2017.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    try:
        line = refused("train", "det.py")
    finally:
        path.write_text(whole)
    assert "not valid JSON" in line and "instances_train2017.json" in line


def test_faulty_annotations(refused, project, tmp_path):
    path = project / "data/coco/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["iscrowd"] = None
    path = tmp_path / "faulty.json"
    path.write_text(json.dumps(content))
    option = f"train_dataloader.dataset.ann_file={path}"
    assert refused("train", "det.py", "--cfg-options", option) == (
        f"error: {path}: annotations[2] (id 3), field 'iscrowd': expected 0 or 1, got "
        "null; mend the file."
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_faulty_label_map(refused, project, tmp_path, workers):
    data = tmp_path / "ade"
    shutil.copytree(project / "data/ade/ADEChallengeData2016", data)
    path = data / "annotations/validation/ADE_val_00000002.png"
    Image.new("RGB", (64, 96)).save(path)
    options = [
        f"test_dataloader.dataset.data_root={data}",
        f"test_dataloader.num_workers={workers}",
    ]
    line = refused("test", "seg.py", SEG, "--cfg-options", *options)
    assert line.startswith(f"error: {path}: expected a label map of one channel, ")


def test_what_does_not_fit_together(refused):
    for option, said in (
        ("model.bbox_head.num_classes=7", "model.bbox_head: expected num_classes=80"),
        ("absent_classes=refused", "nothing of 74 classes (train, "),
        ("absent_classes=no", "absent_classes: expected one of refused, said, got"),
        ("other_sizes=no", "other_sizes: expected one of refused, said, got 'no'"),
        ("unreadable_images=2", "unreadable_images: expected a share of the training"),
        ("skip_steps=-1", "DivergenceHook: skip_steps must be a number of steps"),
        ("strategy.type=DDPStrategy", "only mmengine's FlexibleRunner takes it; add"),
    ):
        assert said in refused("train", "det.py", "--cfg-options", option)
    option = "val_dataloader.batch_size=2"
    line = refused("train", "seg.py", "--cfg-options", option)
    said = "val_dataloader.batch_size: expected 1 or images of one size after the "
    assert f"{said}pipeline, got 2" in line


@pytest.mark.parametrize(("workers", "damage"), [(0, "missing"), (1, "no image")])
def test_bad_image(refused, project, workers, damage):
    path = project / "data/coco/val2017/000000000002.jpg"
    whole = path.read_bytes()
    path.unlink()
    if damage == "no image":
        path.write_bytes(b"no image")
    try:
        options = ("--cfg-options", f"test_dataloader.num_workers={workers}")
        line = refused("test", "det.py", DET, *options)
    finally:
        path.write_bytes(whole)
    said = {"missing": "no such file", "no image": "no image"}[damage]
    assert f"000000000002.jpg: expected an image, got {said}; replace it. " in line


def test_images_of_which_none_can_be_read(refused, project, tmp_path):
    shutil.copytree(project / "data/coco", tmp_path / "coco")
    for image in (tmp_path / "coco/val2017").iterdir():
        image.write_bytes(b"no image")
    options = [
        f"test_dataloader.dataset.data_root={tmp_path / 'coco'}/",
        "test_dataloader.num_workers=1",
        "test_evaluator.type=mmrev.CocoMetric",
    ]
    line = refused("test", "det.py", DET, "--cfg-options", *options)
    assert "CocoDataset: none of its 4 images can be read; the first: " in line
    assert "000000000001.jpg (no image). Complete" in line


def test_folder_without_images(refused, project, tmp_path):
    data = tmp_path / "data"
    for folder in ("images/training", "annotations/training"):
        (data / folder).mkdir(parents=True)
    option = f"train_dataloader.dataset.data_root={data}"
    line = refused("train", "seg.py", "--cfg-options", option)
    assert "ADE20KDataset found no image" in line and "images/training" in line


def test_missing_checkpoint(refused):
    assert "nowhere.pth does not exist" in refused("test", "det.py", "nowhere.pth")
    assert "download it" in refused("test", "det.py", "https://nowhere/weights.pth")
    assert "nowhere.pth" in refused("train", "det.py", "--resume", "nowhere.pth")
    line = refused("train", "det.py", "--cfg-options", "load_from=nowhere.pth")
    assert "nowhere.pth" in line


def test_missing_pretrained_weights(refused, variant):
    for init in (
        "dict(type='Pretrained', checkpoint='nowhere.pth')",
        "dict(type='Pretrained', checkpoint='nowhere.pth', prefix='backbone.')",
    ):
        config = variant("det.py", **{"drop_path_rate=0.1": f"init_cfg={init}"})
        assert "nowhere.pth" in refused("train", config)


def test_weights_without_a_network(refused, variant, monkeypatch):
    def download(url, path):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    url = "https://nowhere.org/weights.pth"
    line = refused("train", "det.py", "--cfg-options", f"load_from={url}")
    assert f"{url} cannot be downloaded" in line and "put it at" in line
    init = "dict(type='Pretrained', checkpoint='torchvision://resnet18')"
    changed = {"neck=dict(": f"neck=dict(init_cfg={init}, "}
    line = refused("train", variant("det.py", **changed))
    assert "https://download.pytorch.org/models/resnet18" in line
    assert "cannot be downloaded" in line


class Surprise:
    def __reduce__(self):
        return (os.system, ("touch executed",))


@pytest.mark.parametrize("kind", ["truncated", "text", "pickle", "folder", "list"])
def test_file_that_is_no_checkpoint(refused, project, tmp_path, kind):
    path = tmp_path / "weights.pth"
    if kind == "truncated":
        whole = (project / DET).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "text":
        path.write_text("<html>not found</html>\n")
    elif kind == "pickle":
        torch.save({"state_dict": {}, "extra": Surprise()}, path)
    elif kind == "folder":
        path.mkdir()
    else:
        torch.save([1], path)
    assert str(path) in refused("test", "det.py", path)
    assert not Path("executed").exists()


def test_plain_pickle_is_not_run(refused, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Surprise()))
    assert str(path) in refused("test", "det.py", path)
    assert not Path("executed").exists()


def test_checkpoint_of_another_architecture(refused, tmp_path):
    line = refused("test", "det.py", SEG)
    assert "does not fit the model" in line
    assert "missing (bbox_head." in line and "unexpected (backbone.norms.0" in line
    option = "model.bbox_head.feat_channels=8"
    line = refused("test", "det.py", DET, "--cfg-options", option)
    assert "other shape" in line
    name = "bbox_head.cls_convs.0.conv.weight"
    assert f"{name} (16x16x3x3 in the checkpoint, 8x16x3x3 here)" in line
    assert not list(tmp_path.glob("run/records/*"))


def test_checkpoint_without_weights(refused, tmp_path):
    torch.save({"epoch": 3}, tmp_path / "weights.pth")
    line = refused("test", "det.py", tmp_path / "weights.pth")
    assert "expected weights by name, got epoch" in line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "drop_path_rate",
            "drop_path_rat",
            "RevCol (in RetinaNet): unknown argument 'drop_path_rat'; "
            "did you mean 'drop_path_rate'?",
        ),
        ("stacked_convs", "stacked_conv", "did you mean 'stacked_convs'?"),
        ("num_outs=3", "num_out=3", "FPN (in RetinaNet): "),
        ("neck=dict", "nek=dict", "RetinaNet: unknown argument 'nek'"),
        ("ratio_range", "ratio_rang", "RandomResize"),
        ("min_pos_iou=0", "min_pos_io=0", "MaxIoUAssigner"),
        ('"mmrev.RevCol"', '"mmrev.RevCool"', "did you mean 'mmrev.RevCol'?"),
        ('"FPN"', '"FPM"', "unknown model type 'FPM'; did you mean 'FPN'?"),
        ("out_indices=(1, 2, 3)", "out_indices=(1, 2, 4)", "RevCol: out_indices"),
        ("lr=1e-3", "lrr=1e-3", "AdamW"),
        ("max_epochs=2", "max_epoch=2", "did you mean 'max_epochs'?"),
        ("num_workers=0", "num_worker=0", "did you mean 'num_workers'?"),
        ("optim_wrapper =", "optim_wraper =", "did you mean 'optim_wrapper'?"),
    ],
)
def test_misspelt_name(refused, variant, old, new, said):
    assert said in refused("train", variant("det.py", **{old: new}))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (
            "model.bakbone.drop_path_rate=0",
            "has no 'bakbone'; did you mean 'backbone'",
        ),
        ("modle.backbone.drop_path_rate=0", "did you mean 'model'?"),
        ("randomnes.seed=1", "did you mean 'randomness'?"),
        ("model.backbone.drop_path_rat=0.1", "did you mean 'drop_path_rate'?"),
        ("train_pipeline.9.type=X", "train_pipeline has 5 elements"),
        ("backbone.drop_path_rate=0", "set model.backbone.drop_path_rate."),
        ("train_dataloader.persistent_workers=True", "needs num_workers > 0"),
        ("val_dataloader.prefetch_factor=2", "val_dataloader (batch_size=1, num_wor"),
        ("train_dataloader.num_workers=-1", "num_workers option should be non-neg"),
        ("train_dataloader.batch_size=0", "batch_size should be a positive integer"),
        ("novalue", "expected KEY=VALUE"),
        ("train_cfg.max_epochs=[1,2", "expected KEY=VALUE"),
    ],
)
def test_misspelt_override(refused, option, said):
    assert said in refused("train", "det.py", "--cfg-options", option)


def test_what_an_option_needs(refused, variant):
    config = variant("det.py", tta_model="other_model")
    line = refused("test", config, DET, "--tta")
    assert "has no tta_model" in line
    assert ".npz" in refused("test", "det.py", DET, "--out", "predictions.json")
    config = variant("det.py", **{'type="OptimWrapper"': 'type="ApexOptimWrapper"'})
    assert "--amp: expected" in refused("train", config, "--amp")


def test_a_budget_that_nothing_fits(refused):
    memory = ("model.backbone.memory=auto", "model.backbone.memory_budget_mb=0.01")
    line = refused("train", "det.py", "--cfg-options", *memory)
    assert "takes at least" in line and "memory_budget_mb=0.01" in line


def test_torchvision_of_another_torch(refused, monkeypatch):
    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    # Which imports torchvision to list its version.
    monkeypatch.setattr("mmengine.runner.Runner._log_env", broken)
    line = refused("train", "det.py")
    assert (
        "torchvision does not work with the torch that is installed (operator" in line
    )
    assert "pip install torch==2.10.0 torchvision==0.25.0" in line


@pytest.mark.parametrize("tool", ["train", "test", "browse"])
def test_without_torchvision(run, monkeypatch, tool):
    class Broken(ModuleType):
        def __getattr__(self, name):
            raise ModuleNotFoundError("No module named 'torchvision'")

    for module in ("mmrev.runs.run", "mmrev.browse.browse"):
        monkeypatch.setitem(sys.modules, module, Broken(module))
    result = run(tool, "det.py", *[DET] * (tool != "train"))
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert "(No module named 'torchvision'); install those of one release" in line


@pytest.mark.parametrize(
    "error",
    [
        OSError("torchvision://resnet50 cannot be downloaded"),
        RuntimeError("pretrained/torchvision/resnet50.pth is damaged"),
    ],
)
def test_what_only_has_torchvisions_name_is_not_its_fault(error):
    assert explain(error) is None


def test_a_gpu_that_torch_cannot_use(run, tmp_path, monkeypatch):
    monkeypatch.setattr("mmrev.runs.run.has_gpu", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    result = run("test", "det.py", DET, "--work-dir", tmp_path / "run")
    assert result.status == 0
    (line,) = (one for one in result.out.splitlines() if one.startswith("a GPU is"))
    assert "(of CUDA 12.8) cannot use it, so this runs on the CPU;" in line


def test_unwritable_work_dir(refused, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    for place in (file, file / "below"):
        assert str(place) in refused("train", "det.py", "--work-dir", place)
    monkeypatch.setattr(os, "access", lambda *_: False)
    line = refused("train", "det.py", "--work-dir", tmp_path)
    assert f"cannot write to {tmp_path}" in line


def test_full_disk_leaves_nothing_half_written(refused, tmp_path, monkeypatch):
    # The second checkpoint finds the disk full after all its bytes were handed over.
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        if "epoch_2" in calls[-1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(mmrev.atomic.os, "fsync", full)
    # Keeping one means that epoch_1 may only go once epoch_2 is safe.
    keep_one = "default_hooks.checkpoint.max_keep_ckpts=1"
    options = ("--work-dir", tmp_path, "--cfg-options", keep_one)
    line = refused("train", "det.py", *options)
    assert "No space left on device" in line and "epoch_2.pth" in line
    assert [path.name for path in tmp_path.glob("*.pth")] == ["epoch_1.pth"]
    assert (tmp_path / "last_checkpoint").read_text().endswith("epoch_1.pth")
    assert not list(tmp_path.glob(".*"))


def test_full_disk_while_testing(refused, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mmrev.atomic.os, "fsync", full)
    line = refused("test", "det.py", DET, "--out", tmp_path / "out.npz")
    assert "No space left" in line
    assert not list(tmp_path.rglob("*.npz")) and not list(tmp_path.rglob("records/*"))


def test_a_bug_keeps_its_traceback(run, tmp_path, monkeypatch):
    for bug in (RuntimeError("a bug"), TypeError("f() got an unexpected keyword 'x'")):

        def broken(*_, bug=bug, **__):
            raise bug

        monkeypatch.setattr(RetinaHead, "loss_by_feat", broken)
        with pytest.raises(type(bug)):
            run("train", "det.py", "--work-dir", tmp_path)


@pytest.mark.ci
@pytest.mark.slow
def test_as_a_process(project, tmp_path):
    shutil.copy(project / "det.py", tmp_path)
    done = subprocess.run(
        [sys.executable, TOOLS / "test.py", "det.py", "nowhere.pth"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_records_are_json_of_this_schema_only(run, project, tmp_path):
    run("test", "det.py", DET, "--work-dir", tmp_path)
    (path,) = (tmp_path / "records").glob("*.json")
    (path.parent / "half.json").write_text(path.read_text()[:100])
    (path.parent / "foreign.json").write_text(json.dumps({"a": 1}))
    listed = ("leaderboard", "list", tmp_path)
    for argv in (listed, (*listed, "--format", "markdown")):
        result = run(*argv)
        assert result.status == 0 and "det" in result.out
        assert "half.json: Invalid JSON" in result.err
        assert "foreign.json: not a record: it has no schema_version" in result.err
    nothing = run("leaderboard", "list", tmp_path / "nowhere")
    assert "no record in" in nothing.status and "No such file" in nothing.err


SCRIPTS = {
    "dist_train.sh": (["a.py", "none"], "expected the number of GPUs of this machine"),
    "dist_test.sh": (["a.py", "a.pth", "0"], "expected the number of GPUs"),
    "slurm_train.sh": (["part", "name", "a.py", "dir"], "got GPUS='many'"),
    "slurm_test.sh": (["part", "name", "a.py", "a.pth"], "got GPUS='many'"),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_launch_scripts_say_what_they_take(script):
    arguments, message = SCRIPTS[script]
    for given, expected in (([], f"{script} "), (arguments, message)):
        done = subprocess.run(
            [TOOLS / script, *given],
            capture_output=True,
            text=True,
            env={**os.environ, "GPUS": "many"},
        )
        assert done.returncode == 2 and expected in done.stderr
        assert ("usage: " in done.stderr) == (not given)


def test_slurm_without_gpus_takes_its_numbers(run, tmp_path, monkeypatch):
    """As one task of a job on one node."""
    if torch.cuda.is_available():
        pytest.skip("CPU only")
    own = {"PROCID": 0, "NTASKS": 1, "LOCALID": 0, "NNODES": 1}
    for name, value in own.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    # What the tool sets goes with the test.
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        monkeypatch.setenv(name, "to be set")
    monkeypatch.delenv("MASTER_ADDR")
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(bound.getsockname()[1]))
    options = ("--launcher", "slurm", "--work-dir", tmp_path)
    assert run("test", "det.py", DET, *options).status == 0
    assert list((tmp_path / "records").glob("*.json"))
