"""The atomic storage backend inside mmengine."""

import mmengine
import pytest
from mmengine.fileio import LocalBackend, get_file_backend, register_backend

from mmrev.engine.storage import AtomicBackend, use_atomic_files


@pytest.fixture(autouse=True)
def restore():
    yield
    register_backend("local", LocalBackend, force=True, prefixes="")


def test_is_chosen_by_name(tmp_path):
    backend = get_file_backend(backend_args={"backend": "atomic"})
    assert isinstance(backend, AtomicBackend)
    backend.put(b"bytes", str(tmp_path / "a"))
    backend.put_text("text", str(tmp_path / "b"))
    assert backend.get(str(tmp_path / "a")) == b"bytes"
    assert backend.get_text(str(tmp_path / "b")) == "text"


def test_default_for_local_paths_on_demand(tmp_path):
    path = str(tmp_path / "x.pkl")
    assert not isinstance(get_file_backend(path, enable_singleton=False), AtomicBackend)
    use_atomic_files()
    assert isinstance(get_file_backend(path, enable_singleton=False), AtomicBackend)
    mmengine.dump([1], path)
    assert mmengine.load(path) == [1]
