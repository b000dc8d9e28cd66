"""`tools/plan_memory.py`: a plan is printed, mistakes are one line."""

import re
from pathlib import Path

import pytest

CONFIGS = str(Path(__file__).parents[2] / "configs")
DEMO = CONFIGS + "/demo/{}_dino-3scale_scenes.py"


def test_prints_every_mode_and_the_plan(run):
    config = DEMO.format("revcol-demo")
    result = run("plan_memory", config, "--size", 64, 96, "--budget-mb", 1000)
    assert result.status == 0, result.err
    rows = re.findall(r"│ ([a-z ]+?) +│ +[\d.]+ +│", result.out)
    assert rows == ["store", "recompute", "reverse", "store"]
    assert "RevCol, images of (1, 3, 64, 96)" in result.out
    assert "the plan for 1000 MB" in result.out


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (
            DEMO.format("vanillanet-demo"),
            ("--budget-mb", 0.01),
            r"VanillaNet: a training step with images of \(1, 3, 64, 64\) takes at "
            r"least \d+ MB, .*got memory_budget_mb=0.01",
        ),
        ("configs/none.py", (), "configs/none.py"),
        (f"{CONFIGS}/_base_/default_runtime.py", (), "'model' is missing"),
    ],
)
def test_mistakes_are_one_line(run, config, settings, message):
    result = run("plan_memory", config, "--size", 64, 64, *settings)
    assert result.status == 1
    assert re.search(message, result.err.replace("\n", " "))
    assert "Traceback" not in result.err
