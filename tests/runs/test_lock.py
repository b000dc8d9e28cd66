"""One training at a time in a work dir."""

import errno
import fcntl
import os
import re
import signal
import socket

import pytest

from mmrev.errors import UserError
from mmrev.runs.lock import locked

LOCK = ".training.lock"


@pytest.fixture
def elsewhere(tmp_path):
    """A process that has locked a folder, with a child of its own."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with locked(tmp_path):
            worker = os.fork()
            if worker:
                os.write(told, str(worker).encode())
            signal.pause()
    worker = int(os.read(ready, 20))
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.kill(worker, signal.SIGKILL)


def test_the_other_process_is_named_and_a_killed_one_holds_nothing(tmp_path, elsewhere):
    message = (
        rf"--work-dir {re.escape(str(tmp_path))}: in use by process {elsewhere} on "
        rf"{re.escape(socket.gethostname())}, since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d.*; "
        rf"wait until it ends, .* remove {re.escape(str(tmp_path / LOCK))}\."
    )
    with pytest.raises(UserError, match=message), locked(tmp_path):
        pass
    (tmp_path / LOCK).unlink()  # as the message says
    with locked(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_killed_one_holds_nothing(tmp_path, elsewhere):
    """Though a loading worker of it is still there."""
    os.kill(elsewhere, signal.SIGKILL)
    os.waitid(os.P_PID, elsewhere, os.WEXITED | os.WNOWAIT)
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / LOCK).read_text()


def test_what_the_lock_says_cannot_steer_a_terminal(tmp_path, elsewhere):
    (tmp_path / LOCK).write_text("\x1b[2J")
    with pytest.raises(UserError, match="in use by \N{REPLACEMENT CHARACTER}"):
        locked(tmp_path).__enter__()
    (tmp_path / LOCK).write_text("")
    with pytest.raises(UserError, match="in use by another process"):
        locked(tmp_path).__enter__()


def test_a_lock_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    taken = []

    def take(file, how):
        if not taken:
            (tmp_path / LOCK).unlink()
        taken.append(file)

    monkeypatch.setattr(fcntl, "lockf", take)
    with locked(tmp_path):
        assert len(taken) == 2 and (tmp_path / LOCK).exists()


def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys):
    def take(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", take)
    with locked(tmp_path):
        pass
    said = capsys.readouterr().out
    assert f"{tmp_path} cannot be locked (No locks available): see to it" in said
