"""Its place makes ``tests/`` importable, for helpers such as ``goldens``."""

import mmrev  # noqa: F401  # isort: skip  before torch, for which it sets a variable

import gc
import os
from collections.abc import Iterator

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.registry import registry as lookup
from processes import Processes
from yapf.yapflib import yapf_api

LOOKUP = {n: getattr(lookup, n) for n in ("get_object_from_string", "import_module")}


def pytest_configure(config: pytest.Config) -> None:
    """Tests that run side by side share the cores."""
    if hasattr(config, "workerinput"):  # of pytest-xdist
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: leave it out of every collection.

    mmengine collects garbage after reading each data set.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def without_waiting():
    """Leave out what takes most of a small run's time and proves nothing here.

    mmengine formats a config six times a run, and files wait for the disk.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, "FormatCode", lambda text, **_: (text, True))
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """Registries look up names as in a new process: reading a safe config changes it.

    And no line is cut: pytest-xdist states a width for its processes.
    """
    for name, original in LOOKUP.items():
        monkeypatch.setattr(lookup, name, original)
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def own_scope():
    """A default scope that a test sets is none of the next test's business."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(scope="session")
def process_pair() -> Iterator[Processes]:
    """Two processes over gloo, which all tests share."""
    yield from _processes(2)


@pytest.fixture(scope="session")
def process_trio() -> Iterator[Processes]:
    """Three processes over gloo, among which much cannot be shared out evenly."""
    yield from _processes(3)


def _processes(count: int) -> Iterator[Processes]:
    group = Processes(count)
    yield group
    group.stop()
