"""A training without memory says what would fit, and loses nothing."""

from pathlib import Path

import pytest
import torch

from mmrev.runs.out_of_memory import is_out_of_memory

ROOT = Path(__file__).parents[2]


def test_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
