"""Whole files or none."""

import errno
import os
import stat

import mmengine
import pytest
from mmengine.fileio import LocalBackend, get_file_backend, register_backend

from mmrev import atomic
from mmrev.atomic import AtomicBackend, use_atomic_files


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


@pytest.fixture
def restored():
    """mmengine's own backend before and after: a tool's test may have come first."""
    register_backend("local", LocalBackend, force=True, prefixes="")
    yield
    register_backend("local", LocalBackend, force=True, prefixes="")


def test_backend(tmp_path):
    backend = AtomicBackend()
    backend.put(b"bytes", str(tmp_path / "a"))
    backend.put_text("text", str(tmp_path / "b"))
    assert backend.get(str(tmp_path / "a")) == b"bytes"
    assert backend.get_text(str(tmp_path / "b")) == "text"


def test_default_for_local_paths_on_demand(tmp_path, restored):
    path = str(tmp_path / "x.pkl")
    assert not isinstance(get_file_backend(path, enable_singleton=False), AtomicBackend)
    use_atomic_files()
    assert isinstance(get_file_backend(path, enable_singleton=False), AtomicBackend)
    mmengine.dump([1], path)
    assert mmengine.load(path) == [1]
