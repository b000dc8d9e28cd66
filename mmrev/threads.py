"""How long OpenMP's threads spin before they sleep, where the CPU computes.

By default libgomp, which torch brings along, spins 300,000 rounds at every barrier.
Beside another process that takes the core of the thread that is waited for, as loading
workers, other ranks, or anything else on a laptop.

Standard library only: `mmrev/__init__.py` asks for it before anything loads torch.
"""

import os
from pathlib import Path

__all__ = ["SPINS", "has_gpu", "wait_briefly"]

SPINS = 1000
"""Rounds of a waiting thread."""
# What drivers of NVIDIA, of AMD, and of both in WSL make.
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")


def wait_briefly(devices: Path = Path("/dev")) -> None:
    """Set ``GOMP_SPINCOUNT`` for this process, if torch comes later, and its children.

    Not where the user has said how threads wait, nor where a GPU computes.

    Args:
        devices: folder of the device files.
    """
    if os.environ.get("OMP_WAIT_POLICY") or has_gpu(devices):
        return
    os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def has_gpu(devices: Path = Path("/dev")) -> bool:
    """Whether a GPU is here and not hidden, usable or not.

    Args:
        devices: folder of the device files.
    """
    # Asking torch would load libgomp, which reads the variable once.
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(any(devices.glob(name)) for name in _GPUS)
