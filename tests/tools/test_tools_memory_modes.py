"""The study of the memory modes from the command line."""

import sys
from dataclasses import replace
from types import ModuleType

import pytest
import torch

from mmrev.studies.memory_modes.networks import FAMILIES

TOOL = "analysis/memory_modes"
TINY = {"channels": [8, 16, 24, 32], "depths": [1] * 4, "num_columns": 3}


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    toy = replace(FAMILIES["revcol"], sizes={"tiny": TINY}, usual=("tiny",))
    monkeypatch.setitem(FAMILIES, "revcol", toy)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("gradients", ["store, again", "stock checkpoint", "0.0e+00"]),
        ("bits", ["bits an element", "0.02", "0.9"]),
    ],
)
def test_reports(run, report, expected):
    argv = ("--family", "revcol", "--size", 64, "--repeats", 1, "--dtype", "bf16")
    result = run(TOOL, report, *argv)
    assert result.status == 0, result.err
    assert "RevCol tiny; 64 px, bf16, cpu" in result.out
    for text in expected:
        assert text in result.out


def test_growth_is_drawn(run, tmp_path):
    page = tmp_path / "growth.html"
    argv = ("--size", 64, 96, "--depth", 3, 2, 3, "--repeats", 1, "--plot", page)
    result = run(TOOL, "growth", "--family", "revcol", *argv)
    assert result.status == 0, result.err
    assert "MiB each" in result.out
    text = page.read_text()
    for size in (64, 96):
        assert f"RevCol tiny; {size} px, fp32, cpu" in result.out
        assert f"RevCol tiny; {size} px, fp32, cpu" in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["bits", "--arch", "x"],
            "--arch of revcol must be one of tiny, got 'x'.",
        ),
        (["bits", "--size", "224", "32"], "--size must be at least 64, got 32."),
        (["growth", "--depth", "0", "4"], "--depth must be at least 1, got 0."),
        (["bits", "--repeats", "0"], "--repeats must be at least 1, got 0."),
        (
            ["bits", "--plot", "a.html"],
            "--plot goes with the report growth, got bits",
        ),
        (["growth", "--plot", "a.png"], "--plot must end in .html, got a.png"),
        (["bits", "--device", "nowhere"], "--device nowhere cannot be used: "),
        (["bits", "--device", "meta"], "--device meta cannot be used: "),
        (["bits", "--family", "vanillanet"], "bits: expected --family revcol, or a "),
        (
            ["bits", "--family", "reducenet", "--coupling", "two-stream"],
            "got --family reducenet --coupling two-stream.",
        ),
    ],
)
def test_mistakes_are_one_line(run, argv, message):
    result = run(TOOL, *argv)
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert message in line


def test_out_of_memory(run, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("mmrev.studies.memory_modes.figures.costs", full)
    result = run(TOOL, "growth", "--family", "revcol", "--size", 64)
    assert result.status == 1
    assert result.err.startswith("error: cpu has not enough memory; take a smaller ")


def test_without_a_package(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "mmrev.studies.memory_modes.plot", raising=False)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    result = run(TOOL, "growth", "--plot", "a.html")
    assert result.status == 1
    assert result.err == "error: --plot needs plotly: pip install plotly.\n"

    class Broken(ModuleType):
        def __getattr__(self, name):
            raise ModuleNotFoundError("No module named 'torchvision'")

    name = "mmrev.studies.memory_modes.reports"
    monkeypatch.setitem(sys.modules, name, Broken(name))
    result = run(TOOL, "bits")
    assert result.status == 1
    (line,) = result.err.splitlines()
    assert "(No module named 'torchvision'); install those of one release" in line
