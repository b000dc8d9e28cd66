"""Runs the tools in this process, on tiny models and data."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import data_layouts
import pytest
import tiny_configs
import torch
from fresh import forget_earlier_runs

TOOLS = Path(__file__).parents[2] / "tools"


@dataclass
class Result:
    status: int
    out: str
    err: str


def main_of(tool: str) -> Callable:
    """The main function of ``tools/<tool>.py``."""
    spec = importlib.util.spec_from_file_location(f"tool_{tool}", TOOLS / f"{tool}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """Threads cost models of this size more than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A folder with data, a config per task, and a trained model of two tasks."""
    root = tmp_path_factory.mktemp("project")
    data_layouts.make_coco(root)
    data_layouts.make_ade20k(root)
    data_layouts.make_imagenet(root)
    tiny_configs.write_detection(root / "det.py")
    tiny_configs.write_detection(root / "det_iterations.py", "iterations")
    tiny_configs.write_segmentation(root / "seg.py")
    tiny_configs.write_classification(root / "cls.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for config in ("det.py", "seg.py"):
            forget_earlier_runs()
            main_of("train")([config])
    forget_earlier_runs()  # its default scope is none of other tests' business
    return root


@pytest.fixture(scope="session")
def train(project) -> Callable[..., None]:
    """Train for several tests at once: ``train(config, "--work-dir", folder)``."""

    def call(*argv: str | Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(project)
            forget_earlier_runs()
            main_of("train")([str(argument) for argument in argv])
        forget_earlier_runs()

    return call


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


@pytest.fixture
def run(capsys) -> Callable[..., Result]:
    """Run a tool: ``run("train", "det.py", "--amp")``."""

    def call(tool: str, *argv: str | Path) -> Result:
        capsys.readouterr()
        forget_earlier_runs()
        status = 0
        try:
            main_of(tool)([str(argument) for argument in argv])
        except SystemExit as stop:
            status = stop.code
        return Result(status, *capsys.readouterr())

    return call
