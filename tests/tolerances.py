"""How far two computations of one quantity may lie apart, by dtype."""

import torch

# Relative to the largest magnitude of the expected tensor.
RELATIVE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 3e-2,
    torch.float16: 4e-3,
}


def assert_close(actual: torch.Tensor, expected: torch.Tensor, dtype=None) -> None:
    """Compare at the tolerance of ``dtype``, by default that of the expected tensor."""
    bound = RELATIVE[dtype or expected.dtype] * expected.abs().max().item()
    torch.testing.assert_close(actual, expected, rtol=0, atol=max(bound, 1e-12))
