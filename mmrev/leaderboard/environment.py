"""Versions and hardware of the running process."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

import mmrev
from mmrev.leaderboard.record import Hardware, Software
from mmrev.ops import ran

__all__ = ["hardware", "software"]

_PACKAGES = {
    "mmengine": ("onedl-mmengine", "mmengine"),
    "mmcv": ("onedl-mmcv", "mmcv"),
    "mmdet": ("onedl-mmdetection", "mmdet"),
    "mmseg": ("onedl-mmsegmentation", "mmsegmentation"),
    "mmpretrain": ("onedl-mmpretrain", "mmpretrain"),
    "numpy": ("numpy",),
    "pycocotools": ("pycocotools",),
    "hotcoco": ("hotcoco",),
    "faster-coco-eval": ("faster-coco-eval",),
    "timm": ("timm",),
}


def software() -> Software:
    """Return the versions of what decides a number, and what computed so far."""
    packages = {"mmrev": mmrev.__version__, "torch": torch.__version__}
    for name, distributions in _PACKAGES.items():
        for distribution in distributions:
            try:
                packages[name] = f"{metadata.version(distribution)}"
                break
            except metadata.PackageNotFoundError:
                continue
    commit, dirty = _git()
    return Software(
        python=platform.python_version(),
        packages=packages,
        commit=commit,
        dirty=dirty,
        ops=ran(),
    )


def _git() -> tuple[str | None, bool | None]:
    source = Path(mmrev.__file__).parents[1]
    # An installed package may lie inside some other project's repository.
    if not (source / ".git").exists():
        return None, None
    try:
        commit = _run(source, "rev-parse", "HEAD")
        return commit, bool(_run(source, "status", "--porcelain", "-uno"))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _run(source: Path, *command: str) -> str:
    return subprocess.run(
        ["git", "-C", str(source), *command],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout.strip()


def hardware() -> Hardware:
    """Return the CPU, the cores this process may use, and the GPUs."""
    devices = range(torch.cuda.device_count())
    return Hardware(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        gpus=[torch.cuda.get_device_name(device) for device in devices],
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
