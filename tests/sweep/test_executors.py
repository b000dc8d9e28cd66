"""Where jobs go: shares of the GPUs here, and what Slurm is told and asked."""

import os
from types import SimpleNamespace

import pytest
from fakes import fake_job, make_cell

from mmrev.errors import UserError
from mmrev.sweep import executors
from mmrev.sweep.executors import LocalExecutor, SlurmExecutor


@pytest.fixture
def gpus(monkeypatch):
    """Four GPUs, and submissions that start nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(executors, "_visible_gpus", lambda: [4, 5, 6, 7])
    seen = []

    def submit(self, job):
        seen.append(self.parameters["visible_gpus"])
        return SimpleNamespace(job_id=str(len(seen)), done=lambda: job == "over")

    monkeypatch.setattr(executors.submitit.LocalExecutor, "submit", submit)
    return seen


@pytest.mark.parametrize(
    ("most", "each", "shares"),
    [
        (None, 1, [[4], [5], [6], [7]]),
        (None, 2, [[4, 5], [6, 7]]),
        (1, 4, [[4, 5, 6, 7]]),
        (3, 2, [[4, 5], [6, 7], [4, 5]]),
        (2, 0, [[], []]),
    ],
)
def test_jobs_share_the_gpus(tmp_path, gpus, most, each, shares):
    executor = LocalExecutor(tmp_path, most, each)
    while executor.has_room():
        executor.submit("running", "a")
    assert gpus == shares


def test_a_job_that_is_over_gives_its_share_back(tmp_path, gpus):
    executor = LocalExecutor(tmp_path, 1, 1)
    job = executor.submit("over", "a")
    assert not executor.has_room()
    assert executor.has_ended(job)
    assert executor.has_room()


def test_fewer_gpus_than_a_job_needs(tmp_path, gpus):
    with pytest.raises(UserError, match="gpus: 8 of each job, but this machine has 4"):
        LocalExecutor(tmp_path, None, 8)


def test_without_a_gpu_a_job_has_none(tmp_path, gpus, monkeypatch):
    monkeypatch.setattr(executors, "_visible_gpus", list)
    executor = LocalExecutor(tmp_path, None, 1)
    executor.submit("running", "a")
    assert gpus == [[]]
    assert not executor.has_room()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of a Slurm whose queue is a file; sbatch keeps what it got."""
    commands = {
        "sbatch": 'cp "$1" {0}/submitted; echo Submitted batch job 7',
        "squeue": "cat {0}/queue",
        "srun": "",
    }
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{text.format(tmp_path)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(executors, "_ASK_SLURM_EVERY", 0)
    return tmp_path


def test_a_job_is_submitted_and_found_again(slurm):
    cell = make_cell(slurm, "a")
    queue = slurm / "queue"
    queue.write_text(f"7 {cell.folder}\n8 (null)\n")
    executor = SlurmExecutor(slurm / "jobs", None, 2, {"partition": "low", "time": 9})
    job = executor.submit(fake_job(cell), "a-seed-0")
    text = (slurm / "submitted").read_text()
    for line in (
        "--partition=low",
        "--time=9",
        "--gpus-per-node=2",
        "--job-name=a-seed-0",
        f"--comment={cell.folder}",
        "--signal=USR1@90",
    ):
        assert f"#SBATCH {line}\n" in text
    assert not executor.has_ended(job)
    later = SlurmExecutor(slurm / "jobs", None, 2, {})
    assert later.adopt(cell.folder) == job
    assert later.adopt(slurm) is None
    queue.write_text("8 (null)\n")
    assert executor.has_ended(job)


def test_a_queue_that_does_not_answer_ends_no_job(slurm):
    cell = make_cell(slurm, "a")
    executor = SlurmExecutor(slurm / "jobs", 1, 0, {})
    assert executor.has_room()
    job = executor.submit(fake_job(cell), "a")  # and squeue fails, without its file
    assert not executor.has_ended(job)
    assert not executor.has_room()


def test_a_refusal_of_slurm_is_told(slurm):
    sbatch = slurm / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    executor = SlurmExecutor(slurm / "jobs", None, 0, {"partition": "no"})
    with pytest.raises(UserError, match=r"--slurm: .*invalid partition"):
        executor.submit(fake_job(make_cell(slurm, "a")), "a")


def test_a_parameter_that_submitit_does_not_know(slurm):
    with pytest.raises(
        UserError, match="no parameter 'partitoin'; did you mean 'partit"
    ):
        SlurmExecutor(slurm / "jobs", None, 0, {"partitoin": "low"})


def test_where_there_is_no_slurm(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--slurm: no sbatch and squeue here"):
        SlurmExecutor(tmp_path, None, 0, {})
