"""Requests to end: after which iteration, with what status, and what is saved."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from test_checkpoint import Line, Numbers, Scripted

from mmrev.checkpoints.runs import read_checkpoint
from mmrev.engine.hooks import preemption
from mmrev.engine.hooks.preemption import preemptible


class Asked(Hook):
    """Sends a signal to this process at some point of a run."""

    def __init__(self, point, at, number=signal.SIGTERM):
        self.at, self.number = at, number
        setattr(self, point, self.send)

    def send(self, runner, *args, **kwargs):
        if runner.iter == self.at:
            signal.raise_signal(self.number)


def train(work_dir: Path, *hooks, batch=2, load_from=None) -> Runner:
    loader = {
        "batch_size": batch,
        "dataset": Numbers(),
        "sampler": {"type": "DefaultSampler"},
    }
    torch.manual_seed(0)
    Scripted.scores = [1.0] * 9
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg={"by_epoch": True, "max_epochs": 3},
        val_dataloader=loader,
        val_cfg={},
        val_evaluator=[Scripted()],
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01, "momentum": 0.9}},
        default_hooks={
            "checkpoint": {"type": "mmrev.AtomicCheckpointHook", "interval": 2},
        },
        custom_hooks=[
            {"type": "EMAHook", "momentum": 0.5},
            *hooks,
            {"type": "mmrev.PreemptionHook"},
            {"type": "mmrev.ExactResumeHook"},
        ],
        default_scope="mmengine",
        randomness={"seed": 0},
        log_level="WARNING",
        experiment_name=f"asked-{id(loader)}",
        load_from=str(load_from) if load_from else None,
        resume=bool(load_from),
    )
    with preemptible():
        runner.train()
    return runner


@pytest.mark.parametrize(
    ("point", "at", "done"),
    [
        ("before_train_iter", 0, 1),
        ("after_train_iter", 2, 3),
        ("before_train_epoch", 2, 3),
        ("after_train_epoch", 4, 4),
        ("after_val_iter", 2, 2),
    ],
)
def test_it_is_saved_and_goes_on(tmp_path, capsys, point, at, done):
    whole = train(tmp_path / "whole")
    with pytest.raises(SystemExit) as end:
        train(tmp_path, Asked(point, at))
    assert end.value.code == 75
    path = tmp_path / "interrupted.pth"
    if at == 4:  # the checkpoint of an epoch's end, which validation follows
        path = tmp_path / "epoch_2.pth"
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        f"asked to end (SIGTERM) after iteration {done}; saved as {path}, continue "
        "with --resume"
    )
    assert read_checkpoint(path)["meta"]["iter"] == done
    resumed = train(tmp_path, load_from=path)
    for name in ("epoch_2.pth", "epoch_3.pth"):
        if not (tmp_path / name).exists():
            continue
        found, expected = (
            read_checkpoint(f / name) for f in (tmp_path, tmp_path / "whole")
        )
        for key in ("state_dict", "ema_state_dict"):
            for one, weight in expected[key].items():
                assert torch.equal(found[key][one], weight), one
    assert resumed.iter == whole.iter
    assert not (tmp_path / "interrupted.pth").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_training_it_ends_at_once(number, capsys):
    with pytest.raises(SystemExit) as end, preemptible():
        signal.raise_signal(number)
        raise AssertionError("not reached")
    assert end.value.code == 75
    assert capsys.readouterr().out == (
        f"asked to end ({number.name}) before training began; nothing is lost, start "
        "it again\n"
    )


def test_a_second_request_ends_it_at_once():
    child = os.fork()
    if child == 0:
        with preemptible():
            preemption._request.answered = True
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)  # the same request
            preemption._request.time -= 2
            signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_signals_are_given_back():
    before = signal.getsignal(signal.SIGTERM)
    with preemptible():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(("number", "sender"), [(15, "other"), (10, "parent")])
def test_a_worker_stays_with_its_process(number, sender):
    ready, told = os.pipe()
    worker = os.fork()
    if worker == 0:
        preemption._stay_with_parent(lambda number: os.write(told, b"0"), 0)
        time.sleep(60)
        os._exit(1)
    os.read(ready, 1)
    if sender == "other":
        other = os.fork()
        if other == 0:
            os.kill(worker, number)
            os._exit(0)
        os.waitpid(other, 0)
    else:
        os.kill(worker, number)
    time.sleep(0.2)
    assert os.waitpid(worker, os.WNOHANG) == (0, 0)
    os.kill(worker, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0


def asked(rank, work_dir, point, at):
    """Rank 1 alone is asked to end."""
    hooks = [Asked(point, at)] if rank else []
    try:
        train(work_dir, *hooks, batch=1)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize(
    ("point", "at", "name", "done"),
    [
        ("before_train_iter", 0, "interrupted.pth", 2),
        ("after_val_iter", 2, "interrupted.pth", 2),
        ("after_train_iter", 5, "epoch_3.pth", 6),
    ],
)
def test_processes_end_together(tmp_path, process_pair, point, at, name, done):
    """After the iteration after that of the request, or as the validation begins."""
    assert process_pair.run(asked, tmp_path, point, at) == [75, 75]
    assert read_checkpoint(tmp_path / name)["meta"]["iter"] == done
