"""Checkpoints that are kept: whole ones, and never fewer than one."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmrev.checkpoints.checksums import ChecksummedBackend, verify_checksum
from mmrev.checkpoints.runs import find_resumable, read_checkpoint
from mmrev.engine.hooks import AtomicCheckpointHook


class Numbers(BaseDataset):
    def __init__(self):
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [{"x": torch.tensor([float(i)])} for i in range(4)]


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x, mode="loss", **_):
        if mode == "loss":
            return {"loss": self.layer(torch.stack(x)).square().mean()}
        return [{}]


class Killed(BaseException):
    pass


class Scripted(BaseMetric):
    """Scores that a test has written down, one a validation; None kills it."""

    scores = ()

    def process(self, data_batch, data_samples):
        self.results.append(None)

    def compute_metrics(self, results):
        score, *type(self).scores = type(self).scores
        if score is None:
            raise Killed
        return {"acc": score}


def train(work_dir: Path, epochs: int, scores=(), load_from=None, **saving) -> Runner:
    loader = {
        "batch_size": 2,
        "dataset": Numbers(),
        "sampler": {"type": "DefaultSampler"},
    }
    saving.setdefault("interval", 1)
    Scripted.scores = [*scores]
    validation = {}
    if scores:
        validation = {
            "val_dataloader": {**loader, "batch_size": 4},
            "val_cfg": {},
            "val_evaluator": [Scripted()],
        }
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
        default_hooks={"checkpoint": {"type": "mmrev.AtomicCheckpointHook", **saving}},
        custom_hooks=[{"type": "mmrev.ExactResumeHook"}],
        default_scope="mmengine",
        randomness={"seed": 0},
        log_level="WARNING",
        experiment_name=f"keep-{id(loader)}",
        load_from=str(load_from) if load_from else None,
        resume=bool(load_from),
        **validation,
    )
    runner.train()
    return runner


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.pth")}


@pytest.fixture
def spoiled(monkeypatch):
    """Lets the disk change a byte of each file of a name."""
    put = ChecksummedBackend.put

    def spoil(name):
        def written(self, obj, filepath):
            put(self, obj, filepath)
            if Path(filepath).name == name:
                Path(filepath).write_bytes(obj[:-1] + b"?")

        monkeypatch.setattr(ChecksummedBackend, "put", written)

    return spoil


def test_each_has_its_checksum_and_the_oldest_go_with_theirs(tmp_path):
    train(tmp_path, 3, max_keep_ckpts=2)
    assert names(tmp_path) == {"epoch_2.pth", "epoch_3.pth"}
    assert all(map(verify_checksum, tmp_path.glob("*.pth")))
    assert len(list(tmp_path.glob("*.sha256"))) == 2


def test_the_last_good_one_stays_until_a_newer_one_is_good(
    tmp_path, spoiled, monkeypatch
):
    said = []
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: said.append(text))
    spoiled("epoch_2.pth")
    train(tmp_path, 2, max_keep_ckpts=1)
    assert names(tmp_path) == {"epoch_1.pth", "epoch_2.pth"}
    assert "epoch_2.pth is damaged" in said[-1] and "So epoch_1.pth stays" in said[-1]
    path, _, skipped = find_resumable(tmp_path)
    assert path.name == "epoch_1.pth" and "epoch_2.pth is damaged" in skipped[0]
    spoiled("none")
    train(tmp_path, 3, load_from=path, max_keep_ckpts=1)
    assert names(tmp_path) == {"epoch_3.pth"}


def test_killed_before_the_oldest_went_it_goes_later(tmp_path, monkeypatch):
    remove = AtomicCheckpointHook._remove
    with monkeypatch.context() as patch:

        def killed(self, runner, paths, newer):
            if Path(newer[0]).name == "epoch_2.pth":
                raise Killed
            return remove(self, runner, paths, newer)

        patch.setattr(AtomicCheckpointHook, "_remove", killed)
        with pytest.raises(Killed):
            train(tmp_path, 3, max_keep_ckpts=1)
    assert names(tmp_path) == {"epoch_1.pth", "epoch_2.pth"}
    (tmp_path / ".epoch_2.pth.abc.tmp").touch()
    train(tmp_path, 3, load_from=tmp_path / "epoch_2.pth", max_keep_ckpts=1)
    assert names(tmp_path) == {"epoch_3.pth"}
    assert not list(tmp_path.glob(".*"))


BEST = {"save_best": "acc", "rule": "greater", "max_keep_ckpts": 1}


def test_the_best_one_goes_after_a_better_one_is_safe(tmp_path, spoiled, monkeypatch):
    train(tmp_path / "a", 3, [1.0, 3.0, 2.0], **BEST)
    assert names(tmp_path / "a") == {"epoch_3.pth", "best_acc_epoch_2.pth"}
    spoiled("best_acc_epoch_2.pth")
    monkeypatch.setattr(MMLogger, "warning", lambda self, text: None)
    train(tmp_path / "b", 2, [1.0, 3.0], **BEST)
    assert names(tmp_path / "b") >= {"best_acc_epoch_1.pth", "best_acc_epoch_2.pth"}


def test_a_run_killed_while_validating_validates_when_it_is_resumed(tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, 3, [1.0, None], **BEST)
    last = tmp_path / "epoch_2.pth"
    train(tmp_path, 3, [3.0, 2.0], load_from=last, **BEST)
    assert Scripted.scores == []
    assert names(tmp_path) == {"epoch_3.pth", "best_acc_epoch_2.pth"}


def test_what_was_validated_is_not_again(tmp_path):
    train(tmp_path, 2, [1.0, 3.0], **BEST)
    runner = train(tmp_path, 3, [2.0], load_from=tmp_path / "epoch_2.pth", **BEST)
    assert Scripted.scores == []
    assert runner.message_hub.get_info("best_score") == 3.0
    assert names(tmp_path) == {"epoch_3.pth", "best_acc_epoch_2.pth"}


@pytest.mark.parametrize("name", ["epoch_2.pth", "best_acc_epoch_2.pth"])
def test_a_full_disk_costs_the_new_one_only(tmp_path, monkeypatch, name):
    put = ChecksummedBackend.put

    def full(self, obj, filepath):
        if Path(filepath).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), filepath)
        put(self, obj, filepath)

    monkeypatch.setattr(ChecksummedBackend, "put", full)
    with pytest.raises(OSError, match=f"No space left on device: .*{name}"):
        train(tmp_path, 2, [1.0, 2.0], **BEST)
    assert names(tmp_path) >= {"best_acc_epoch_1.pth"} - {name}
    path, _, _ = find_resumable(tmp_path)
    assert path.name == ("epoch_1.pth" if name[0] == "e" else "epoch_2.pth")
    monkeypatch.undo()
    train(tmp_path, 2, [2.0] * 2, load_from=path, **BEST)
    assert names(tmp_path) == {"epoch_2.pth", "best_acc_epoch_2.pth"}


def test_a_run_that_has_to_end_is_saved_once(tmp_path):
    runner = train(tmp_path, 1, save_optimizer=False)
    hook = next(h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))
    # That checkpoint cannot be resumed from.
    assert Path(hook.save_interrupted(runner, 1, 2)).name == "interrupted.pth"
    assert "optimizer" in read_checkpoint(tmp_path / "interrupted.pth")
    train(tmp_path, 2, load_from=tmp_path / "interrupted.pth", max_keep_ckpts=1)
    assert names(tmp_path) == {"epoch_1.pth", "epoch_2.pth"}
    runner = train(tmp_path / "b", 1)
    hook = next(h for h in runner.hooks if isinstance(h, AtomicCheckpointHook))
    assert Path(hook.save_interrupted(runner, 1, 2)).name == "epoch_1.pth"


def test_files_elsewhere_are_not_asked_for_a_checksum():
    hook = AtomicCheckpointHook(backend_args={"backend": "petrel"})
    removed = []
    hook.file_backend = SimpleNamespace(isfile=bool, remove=removed.append)
    assert hook._remove(None, ["s3://a/epoch_1.pth"], ["s3://a/epoch_2.pth"])
    assert removed == ["s3://a/epoch_1.pth"]
