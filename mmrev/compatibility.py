"""Which packages mmrev works with, and what an installation lacks.

Standard library only: `mmrev/__init__.py` asks on every import, and `mmrev.doctor`
when nothing else works.
"""

import re
from dataclasses import dataclass
from importlib import metadata

INSTALL_HINT = (
    "in a clone of mmrev run `make setup`, or `pip install '.[suite]'` in an "
    "environment of your own"
)


@dataclass(frozen=True)
class Package:
    """A package by the name it is imported with.

    Args:
        module: name in ``import module``.
        distributions: names under which it is installed, the maintained one first.
        minimum: oldest version that is accepted.
        tried: version that the tests run with.
        purpose: what does not work without it.
    """

    module: str
    distributions: tuple[str, ...]
    minimum: str
    tried: str
    purpose: str

    def installed(self) -> tuple[str, str] | None:
        """(distribution, version) of what is installed, None if nothing is."""
        for name in self.distributions:
            try:
                return name, metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        return None

    def complaint(self) -> str | None:
        """What is wrong with the installed version, None if nothing is."""
        found = self.installed()
        if found is None:
            return f"{self.module} (>= {self.minimum}) is missing"
        name, version = found
        if release(version) < release(self.minimum):
            return f"{name} {version} is older than {self.minimum}"
        return None


ENGINE = (
    Package(
        "mmengine",
        ("onedl-mmengine", "mmengine", "mmengine-lite"),
        "0.10.0",
        "0.10.12",
        "every backbone, config and tool",
    ),
    Package(
        "mmcv",
        ("onedl-mmcv", "mmcv", "mmcv-full", "mmcv-lite"),
        "2.0.0",
        "2.3.6",
        "data pipelines, heads and their ops",
    ),
)
TOOLBOXES = (
    Package(
        "mmdet",
        ("onedl-mmdetection", "mmdet"),
        "3.3.0",
        "3.5.1",
        "DINO, Cascade Mask R-CNN, and the heads of Mask2Former",
    ),
    Package(
        "mmseg",
        ("onedl-mmsegmentation", "mmsegmentation"),
        "1.2.0",
        "1.4.2",
        "Mask2Former and UPerNet for semantic segmentation",
    ),
    Package(
        "mmpretrain",
        ("onedl-mmpretrain", "mmpretrain"),
        "1.2.0",
        "1.3.6",
        "image classification and pretraining",
    ),
)


def release(version: str) -> tuple[int, ...]:
    """Numbers of a version's release part: ``'2.10.0+cu128'`` gives (2, 10, 0)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def torchvision_complaint() -> str | None:
    """What is wrong with torchvision, None if nothing is.

    Beside another torch than its own it fails when it is imported, which mmpretrain
    does, and mmcv's ops are computed by it.
    """
    try:
        torch, version = (metadata.version(one) for one in ("torch", "torchvision"))
        wanted = " ".join(metadata.requires("torchvision") or ())
    except metadata.PackageNotFoundError:
        return None  # one may do without it
    match = re.search(r"\btorch\s*\(?(==|>=)\s*([\d.]+)", wanted)
    if match is None:
        return None
    found, needed = release(torch), release(match[2])
    if found == needed or (match[1] == ">=" and found > needed):
        return None
    return f"torchvision {version} needs torch {match[1]} {match[2]}, got {torch}"


def missing_or_too_old() -> str | None:
    """One sentence on what keeps the suite from working, None if nothing does.

    A toolbox may be absent (nobody needs mmseg for detection), but not too old, and
    not all of them together.
    """
    complaints = [package.complaint() for package in ENGINE]
    complaints.append(torchvision_complaint())
    toolboxes = [package for package in TOOLBOXES if package.installed()]
    complaints += [package.complaint() for package in toolboxes]
    if not toolboxes:
        names = ", ".join(package.module for package in TOOLBOXES)
        complaints.append(f"none of {names} is installed")
    found = [complaint for complaint in complaints if complaint]
    if not found:
        return None
    return (
        f"mmrev: {'; '.join(found)}. Without this only mmrev.reversible works. "
        f"To mend it: {INSTALL_HINT}; for details: python -m mmrev.doctor."
    )
