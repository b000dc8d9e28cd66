"""Trainings that are killed and go on, by ``tools/train.py`` as a user runs it.

The models are tiny forms of real configs, with their pipelines, on the embedded scenes.
What a run draws is written down in the moment, so that it outlives a kill.
"""

import mmrev  # isort: skip  before torch, for which it sets a variable

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fresh import forget_earlier_runs
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from resolved import CONFIGS, resolve
from shrink import shrink
from yapf.yapflib import yapf_api

import mmrev.runs.run  # noqa: F401  the tool imports it, once for all forks
from mmrev.checkpoints import load_checkpoint_file

TRAIN = CONFIGS.parent / "tools/train.py"
IMAGES, BATCH, EPOCHS = 12, 2, 3
EPOCH = IMAGES // BATCH
SCENES = {"num_training": IMAGES, "num_validation": 2}


@HOOKS.register_module()
class DrawnImages(Hook):
    """Writes the images of each iteration to a file, before the model sees them."""

    def __init__(self, path: str):
        self.path = path

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        images = [Path(sample.img_path).name for sample in data_batch["data_samples"]]
        with open(self.path, "a") as file:
            file.write(json.dumps([runner.iter, images]) + "\n")


def dino() -> Config:
    """By epochs; aspect ratios, crops, denoising queries, averaged weights."""
    cfg = shrink(resolve("revcol/revcol-t_dino-4scale_8xb2-12e_coco"))
    _use_scenes(cfg)
    cfg.model.bbox_head.num_classes = 10
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.param_scheduler = [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 4},
        {"type": "MultiStepLR", "milestones": [2], "by_epoch": True},
    ]
    cfg.custom_hooks = [{"type": "EMAHook", "momentum": 0.1}]
    return cfg


def mask2former() -> Config:
    """By iterations; colours, crops, sampled points, accumulated gradients."""
    cfg = shrink(resolve("revcol/revcol-t_mask2former_8xb2-160k_ade20k-512x512"))
    _use_scenes(cfg)
    head = cfg.model.decode_head
    head.num_classes = 11
    head.loss_cls.class_weight = [1.0] * 11 + [0.1]
    cfg.train_cfg.update(max_iters=EPOCHS * EPOCH, val_interval=EPOCH)
    cfg.param_scheduler[0].end = EPOCHS * EPOCH
    cfg.optim_wrapper.accumulative_counts = 4
    cfg.default_hooks.checkpoint.interval = 3
    return cfg


def stitched() -> Config:
    """By epochs, saved within them; a stitch each step."""
    cfg = shrink(resolve("stitched/stitched-deit-ti-s-b_dino-4scale_8xb2-12e_coco"))
    _use_scenes(cfg)
    cfg.model.bbox_head.num_classes = 10
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.default_hooks.checkpoint.update(by_epoch=False, interval=4)
    return cfg


def _use_scenes(cfg: Config) -> None:
    detection = cfg.default_scope == "mmdet"
    for split, name in (("train", "training"), ("val", "validation")):
        dataset = cfg[f"{split}_dataloader"].dataset
        dataset.pop("filter_cfg", None)
        dataset.update(data_root="scenes", scenes=SCENES)
        if detection:
            dataset.type = "mmrev.ScenesDetDataset"
            dataset.ann_file = f"annotations/instances_{name}.json"
            dataset.data_prefix = {"img": f"images/{name}/"}
        else:
            dataset.type = "mmrev.ScenesSegDataset"
            dataset.data_prefix = {
                "img_path": f"images/{name}",
                "seg_map_path": f"annotations/{name}",
            }
            for transform in dataset.pipeline:
                transform.pop("reduce_zero_label", None)
    if detection:
        cfg.val_evaluator.ann_file = "scenes/annotations/instances_validation.json"
    cfg.test_dataloader = cfg.test_evaluator = cfg.test_cfg = None
    cfg.randomness = {"seed": 1}


def write_config(make: Callable[[], Config], folder: Path) -> Path:
    """Write a config of this module for runs in a folder."""
    cfg = make()
    cfg.custom_imports = {"imports": ["killed_runs"], "allow_failed_imports": False}
    path = folder / f"{make.__name__}.py"
    cfg.absent_classes = "said"
    cfg.dump(path)
    return path


class Killed:
    """A training of a config in a work dir, process after process.

    Args:
        config: of `write_config`; runs are in its folder.
        name: of the work dir.
        forked: whether its processes are forked from this one, which has imported
            everything, or start as a user's do.
    """

    def __init__(self, config: Path, name: str, forked: bool = True):
        self.config = config
        self.work_dir = config.parent / name
        self.draws = config.parent / f"{name}.draws"
        self.log = config.parent / f"{name}.log"
        self.forked = forked
        self.process: Any = None

    def start(self, *options: str) -> None:
        """Start, or continue."""
        hooks = Config.fromfile(self.config).get("custom_hooks") or []
        hooks = [*map(dict, hooks), {"type": "DrawnImages", "path": str(self.draws)}]
        arguments = [str(self.config), "--work-dir", str(self.work_dir), "--resume"]
        arguments += ["--cfg-options", f"custom_hooks={hooks}", *options]
        if self.forked:
            self.process = multiprocessing.get_context("fork").Process(
                target=_train, args=(arguments, self.config.parent, self.log)
            )
            self.process.start()
            return
        self.process = subprocess.Popen(
            [sys.executable, TRAIN, *arguments],
            cwd=self.config.parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            start_new_session=True,
            stdout=self.log.open("a"),
            stderr=subprocess.STDOUT,
        )

    def wait(self) -> int:
        """Wait for the end; the exit status, negative of a signal."""
        if self.forked:
            self.process.join()
            return self.process.exitcode
        return self.process.wait()

    def is_running(self) -> bool:
        return self.process.is_alive() if self.forked else self.process.poll() is None

    def iterations(self) -> int:
        """Those that were begun, all processes together."""
        return self.draws.read_text().count("\n") if self.draws.exists() else 0

    def wait_for(self, iterations: int) -> None:
        """Wait until so many more were begun, or it ends."""
        wanted = self.iterations() + iterations
        while self.is_running() and self.iterations() < wanted:
            time.sleep(0.005)

    def kill(self) -> bool:
        """Kill it; whether it did not end before."""
        running = self.is_running()
        if running:
            self.process.kill()
        return self.wait() == -signal.SIGKILL and running

    def kill_while_saving(self) -> bool:
        """Kill it while it writes a checkpoint; whether it did not end before."""
        while self.is_running() and not self.unfinished():
            pass
        return self.kill()

    def unfinished(self) -> list[Path]:
        """Checkpoints that were not written to their end."""
        return list(self.work_dir.glob(".*.pth.*.tmp"))

    def signal(self, number: int) -> None:
        """Send a signal to it and its workers."""
        os.killpg(self.process.pid, number)

    def drawn(self) -> dict[int, list[str]]:
        """The images of each iteration; of one that was done twice, the later's."""
        lines = map(json.loads, self.draws.read_text().splitlines())
        return dict(lines)

    def saved(self) -> dict[str, Any]:
        """The last checkpoint, without what tells of time and place."""
        path = Path((self.work_dir / "last_checkpoint").read_text())
        content = load_checkpoint_file(path)
        del content["meta"]
        hub = content.pop("message_hub")["runtime_info"]
        return {"name": path.name, "best": hub.get("best_score"), **content}

    def files(self) -> set[str]:
        """All files of checkpoints that it has left, half ones included."""
        return {path.name for path in self.work_dir.glob("*.pth*")} | {
            path.name for path in self.work_dir.glob(".*")
        }


def _train(arguments: list[str], folder: Path, log: Path) -> None:
    os.setsid()
    os.chdir(folder)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = sys.stderr = os.fdopen(output, "w", buffering=1)
    os.fsync = _slow_disk
    forget_earlier_runs()
    torch.set_num_threads(1)
    # mmengine formats the config for each checkpoint, for longer than these train.
    yapf_api.FormatCode = lambda text, **_: (text, True)
    sys.argv = [str(TRAIN), *arguments]
    runpy.run_path(str(TRAIN), run_name="__main__")


def _slow_disk(descriptor: int) -> None:
    """Give who kills a run while it saves the time to do so."""
    if os.fstat(descriptor).st_size > 1_000_000:
        time.sleep(0.1)


def same(one: Any, other: Any) -> bool:
    """Whether two checkpoints, or parts, are equal bit for bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(v, other[k]) for k, v in one.items()
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
