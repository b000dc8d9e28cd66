"""Packaging: minimal requirements, and ``.mim`` as OpenMMLab packages ship it."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = ("tools", "configs", "model-index.yml")


def read_requirements(*names: str) -> list[str]:
    """The lines of requirements/NAME.txt, without comments."""
    lines = []
    for name in names:
        text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        lines += [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]


def read_version() -> str:
    """``__version__`` of mmrev, without importing it."""
    text = (ROOT / "mmrev" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, flags=re.MULTILINE)[1]


class BuildWithMim(build_py):
    """Put what `SHIPPED` names into ``mmrev/.mim``.

    Copies go into the build folder only; an editable install gets links, so that an
    edited config is at once the one that ``mmrev::`` finds.
    """

    def run(self) -> None:
        """Build, then add ``.mim``."""
        super().run()
        base = ROOT if self.editable_mode else Path(self.build_lib)
        mim = base / "mmrev" / ".mim"
        shutil.rmtree(mim, ignore_errors=True)
        mim.mkdir(parents=True)
        for name in SHIPPED:
            source = (ROOT / name).resolve()
            if self.editable_mode:
                (mim / name).symlink_to(source, target_is_directory=source.is_dir())
            elif source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
                shutil.copytree(source, mim / name, ignore=ignored)
            elif source.exists():
                shutil.copy(source, mim / name)


# torchvision computes mmcv's ops; which one follows from the torch that is there.
suite = [*read_requirements("suite", "runtime"), "torchvision"]
setup(
    name="mmrev",
    version=read_version(),
    description="Reversible and other backbones for dense recognition with OpenMMLab",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8")
    if (ROOT / "README.md").exists()
    else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["mmrev", "mmrev.*"]),
    py_modules=["mmrev_ops"],
    package_data={
        "mmrev.browse": ["*.html"],
        "mmrev.leaderboard.published": ["*.json"],
        "mmrev.leaderboard.site": ["templates/*.html", "assets/*"],
    },
    install_requires=["torch>=2.4", "numpy"],
    extras_require={
        "suite": suite,
        "demo": read_requirements("demo"),
        "tests": read_requirements("tests"),
    },
    cmdclass={"build_py": BuildWithMim},
)
