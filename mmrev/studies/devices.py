"""Where studies measure."""

import torch

from mmrev.errors import UserError

__all__ = ["require_device"]


def require_device(device: str) -> None:
    """Refuse a device that cannot compute.

    Raises:
        UserError: names it, and why.
    """
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"--device {device} cannot be used: {why}") from error
