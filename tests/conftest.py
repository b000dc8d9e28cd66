"""Its place makes ``tests/`` importable, for helpers such as ``goldens``."""

import mmrev  # noqa: F401  # isort: skip  before torch, for which it sets a variable

from collections.abc import Iterator

import pytest
from mmengine.registry import DefaultScope
from process_pair import ProcessPair


@pytest.fixture(autouse=True)
def own_scope():
    """A default scope that a test sets is none of the next test's business."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.fixture(scope="session")
def process_pair() -> Iterator[ProcessPair]:
    """Two processes over gloo, which all tests share."""
    pair = ProcessPair()
    yield pair
    pair.stop()
