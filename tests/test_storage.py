"""mmengine writes whole files or none."""

import mmengine
import pytest
from mmengine.fileio import LocalBackend, get_file_backend, register_backend

from mmrev.storage import AtomicBackend, use_atomic_files


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
