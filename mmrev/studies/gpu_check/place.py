"""Where checks run, how exactly, and what they leave behind."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

SIZES = ("full", "tiny")


@dataclass(frozen=True)
class Place:
    """The device, and how much is asked of it.

    Attributes:
        device: 'cuda' with its index, or 'cpu'.
        size: 'full'; or 'tiny', which runs every line in a few minutes on a CPU.
    """

    device: torch.device
    size: str = "full"

    @property
    def is_gpu(self) -> bool:
        """Whether figures of a GPU can be had."""
        return self.device.type == "cuda"

    @property
    def is_tiny(self) -> bool:
        """Whether every line is to run, and no figure is wanted."""
        return self.size == "tiny"

    def wait(self) -> None:
        """Let what was started end; an error of a kernel comes up here at last."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def clean(self) -> None:
        """Give back what the check before has left."""
        gc.collect()
        if self.is_gpu:
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def is_lost(self) -> bool:
        """Whether the process can use its device no more, as after a wrong address."""
        try:
            self.wait()
            torch.zeros(8, device=self.device).add_(1).sum().item()
        except torch.OutOfMemoryError:
            return False
        except RuntimeError:
            return True
        return False


@contextmanager
def exactness(group: str) -> Iterator[None]:
    """Single precision as it is for 'correctness', TF32 for anything else."""
    # The older of torch's two ways: mixing them is an error, and the compiler asks by
    # this one.
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark
    exact = group == "correctness"
    matmul.allow_tf32 = cudnn.allow_tf32 = not exact
    cudnn.deterministic, cudnn.benchmark = exact, False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before[:2]
        cudnn.deterministic, cudnn.benchmark = before[2:]
