"""What a process holds at most."""

import pytest
import torch

from mmrev.measure.memory import process_peak

MEGABYTE = 2**20


def test_the_peak_is_that_of_the_call():
    def step(megabytes):
        return torch.ones(megabytes * MEGABYTE // 4).sum()

    before = process_peak(lambda: step(1))
    assert process_peak(lambda: step(300)) - before == pytest.approx(
        300 * MEGABYTE, rel=0.1
    )
    # What an earlier call has taken does not count.
    assert process_peak(lambda: step(1)) < before + 100 * MEGABYTE
