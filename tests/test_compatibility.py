"""What mmrev says at import, with packages faked or absent."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mmrev import compatibility
from mmrev.compatibility import ENGINE, TOOLBOXES, missing_or_too_old, release

ROOT = Path(__file__).parent.parent
ONEDL = {
    "onedl-mmengine": "0.10.12",
    "onedl-mmcv": "2.3.6",
    "onedl-mmdetection": "3.5.1",
}
UPSTREAM = {
    "mmengine": "0.10.7",
    "mmcv": "2.1.0",
    "mmdet": "3.3.0",
    "mmsegmentation": "1.2.2",
    "mmpretrain": "1.2.0",
}


@pytest.fixture
def pretend(monkeypatch):
    """Let only some distributions be installed."""

    def use(installed: dict[str, str]) -> None:
        def version(name):
            if name not in installed:
                raise compatibility.metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(compatibility.metadata, "version", version)

    return use


@pytest.mark.parametrize("installed", [ONEDL, UPSTREAM], ids=["onedl", "upstream"])
def test_either_family_of_distributions_will_do(pretend, installed):
    pretend(installed)
    assert missing_or_too_old() is None


def test_torch_alone_is_told_what_is_missing(pretend):
    pretend({})
    sentence = missing_or_too_old()
    assert "mmengine (>= 0.10.0) is missing" in sentence
    assert "none of mmdet, mmseg, mmpretrain is installed" in sentence
    assert "python -m mmrev.doctor" in sentence


def test_one_toolbox_is_enough_but_not_if_too_old(pretend):
    pretend(ONEDL | {"mmsegmentation": "0.30.0"})
    assert "mmsegmentation 0.30.0 is older than 1.2.0" in missing_or_too_old()


@pytest.mark.parametrize(
    ("requirement", "torch", "said"),
    [
        ("torch==2.10.0", "2.10.0+cpu", None),
        (
            "torch==2.10.0",
            "2.13.0",
            "0.25.0 needs torch == 2.10.0, got 2.13.0",
        ),
        ("torch (>=2.14.0)", "2.15.0", None),
        ("torch (>=2.14.0)", "2.13.0", "needs torch >= 2.14.0, got 2.13.0"),
        ("numpy", "2.10.0", None),
    ],
)
def test_torchvision_of_another_torch(pretend, monkeypatch, requirement, torch, said):
    pretend(ONEDL | {"torch": torch, "torchvision": "0.25.0"})
    needs = ["numpy", requirement]
    monkeypatch.setattr(compatibility.metadata, "requires", lambda _: needs)
    found = missing_or_too_old()
    assert found is None if said is None else said in found


def test_what_is_tried_is_what_is_pinned():
    pins = (ROOT / "requirements/suite.txt").read_text()
    for package in ENGINE + TOOLBOXES:
        assert f"\n{package.distributions[0]}=={package.tried}" in pins


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.10.0+cu128", (2, 10, 0)), ("0.8.3rc1", (0, 8, 3)), ("unknown", ())],
)
def test_release(text, numbers):
    assert release(text) == numbers


def test_import_is_light_and_silent_where_all_is_well():
    code = "import mmrev, sys; print([m in sys.modules for m in ('torch', 'mmengine')])"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert (run.stdout, run.stderr) == ("[False, False]\n", "")


def hide(*modules: str) -> str:
    """Code that makes modules and their distributions as good as absent."""
    return (
        "import sys; from importlib import metadata\n"
        f"hidden = {modules!r}\n"
        "for name in hidden: sys.modules[name] = None\n"
        "found = metadata.version\n"
        "def version(name):\n"
        "    if any(part in name for part in hidden):\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "metadata.version = version\n"
    )


def test_the_memory_engine_needs_only_torch():
    modules = ("mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "cv2", "rich")
    code = hide(*modules) + (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    import mmrev, mmrev.reversible\n"
        "print(len(caught), caught[0].message)\n"
        "import torch\n"
        "x = torch.ones(2, 3, requires_grad=True)\n"
        "mmrev.reversible.recompute(torch.nn.Linear(3, 1), x).sum().backward()\n"
        "print(tuple(x.grad.shape))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    assert first.startswith("1 mmrev: mmengine (>= 0.10.0) is missing; mmcv")
    assert second == "(2, 3)"


def test_nothing_is_said_twice():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import mmrev  # noqa: F401
    assert caught == []
