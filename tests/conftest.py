"""Its place makes ``tests/`` importable, for helpers such as ``goldens``."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def own_scope():
    """A default scope that a test sets is none of the next test's business."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
