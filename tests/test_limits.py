"""Limits of foreign files, and how a user raises them."""

import pytest

from mmrev.limits import limit, refuse_larger


def test_what_exceeds_a_limit():
    refuse_larger("file a", 10, 10)
    with pytest.raises(
        ValueError, match="file a: expected at most 10 bytes, got 1,000"
    ):
        refuse_larger("file a", 1000, 10)


def test_is_raised_by_the_user(monkeypatch):
    monkeypatch.setenv("MMREV_LIMITS", "100")
    refuse_larger("file a", 1000, 10)
    assert limit(10) == 1000


@pytest.mark.parametrize("stated", ["", "many", "nan", "inf", "1e400"])
def test_is_no_number(stated, monkeypatch):
    monkeypatch.setenv("MMREV_LIMITS", stated)
    with pytest.raises(ValueError, match="MMREV_LIMITS: expected a number"):
        limit(10)
