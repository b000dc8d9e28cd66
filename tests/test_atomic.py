"""Whole files or none."""

import errno
import os
import stat

import pytest

from mmrev import atomic


def test_replaces_the_whole_content(tmp_path):
    path = tmp_path / "new" / "file"
    atomic.write_bytes(path, b"first, longer")
    atomic.write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_permissions_are_those_of_open(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    atomic.write_bytes(tmp_path / "atomic", b"")
    modes = {
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")
    }
    assert len(modes) == 1


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_leaves_the_old_content_and_names_the_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, step, full)
    with pytest.raises(OSError, match="No space left") as failure:
        atomic.write_bytes(path, b"new")
    assert failure.value.errno == errno.ENOSPC
    assert failure.value.filename == str(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_interruption_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_bytes(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "fsync", lambda _: os._exit(9))
    if (child := os.fork()) == 0:
        atomic.write_bytes(tmp_path / "epoch_3.pth", b"new")
    os.waitpid(child, 0)
    (tmp_path / ".other.tmp").touch()
    (left,) = tmp_path.glob(".epoch_3.pth.*.tmp")
    atomic.remove_unfinished(tmp_path, "iter_*.pth")
    assert left.is_file()
    atomic.remove_unfinished(tmp_path, "epoch_*.pth")
    assert os.listdir(tmp_path) == [".other.tmp"]
