"""A tool reads its arguments before it loads anything but the standard library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmrev import checkpoints
from mmrev.leaderboard.scaling_law import COSTS
from mmrev.models.layers import COUPLINGS
from mmrev.runs.arguments import LAYOUTS
from mmrev.studies.memory_modes import arguments, networks, reports

ROOT = Path(__file__).parents[1]
TOOLS = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("tools/**/*.py"))
COMMANDS = ("list", "show", "diff", "add", "verify", "build", "schema")
# Runs tools one after the other; for each the exit status, and the packages that are
# loaded afterwards beside those that every Python of this environment starts with.
RUN = """
import sys
before = {name.partition(".")[0] for name in sys.modules}
import contextlib, io, json, runpy
def start(tool, *arguments):
    sys.argv = [tool, *arguments]
    printed, status = io.StringIO(), None
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            runpy.run_path(tool, run_name="__main__")
        except SystemExit as stop:
            status = stop.code
    after = {name.partition(".")[0] for name in sys.modules}
    ours = {"mmrev", "mmrev_ops"}
    loaded = after - before - ours - set(sys.stdlib_module_names)
    return status, sorted(loaded), printed.getvalue()
print(json.dumps([start(*call) for call in json.loads(sys.argv[1])]))
"""


def start(*calls: tuple[str, ...], cwd: Path = ROOT) -> list:
    """Run tools in one new process, as `RUN` says."""
    run = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(calls)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_help_and_mistakes_need_the_standard_library_alone():
    calls = [(tool, "--help") for tool in TOOLS]
    calls += [(tool, "--no-such-argument", "a") for tool in TOOLS]
    calls += [("tools/leaderboard.py", command, "--help") for command in COMMANDS]
    for number, (call, found) in enumerate(zip(calls, start(*calls), strict=True)):
        status, loaded, printed = found
        assert "usage: " in printed, call
        assert status == (2 if len(TOOLS) <= number < 2 * len(TOOLS) else 0), call
        assert loaded == [], call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("train", "a.py", "--launcher", "mpirun"), "invalid choice: 'mpirun'"),
        (("train", "a.py", "--cfg-options", "a"), "expected KEY=VALUE"),
        (("train", "a.py", "--cfg-options", "a=[1,2"), "expected KEY=VALUE"),
        (("train", "a.py", "--cfg-options", "a={b:1}"), "expected a dict as Python's"),
        (("plan", "a.py", "--gpus", "many", "--memory", "8"), "invalid int value"),
        (("convert_checkpoint", "a", "b", "--layout", "c"), "invalid choice: 'c'"),
        (("leaderboard", "list", "--task", "chess"), "invalid choice: 'chess'"),
        (("analysis/scaling_law", "--cost", "time"), "invalid choice: 'time'"),
        (("analysis/memory_modes", "costs"), "invalid choice: 'costs'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_mistyped_values_need_no_more(options, said):
    ((status, loaded, printed),) = start((f"tools/{options[0]}.py", *options[1:]))
    assert status in (1, 2) and loaded == []
    assert said in printed


def test_records_are_listed_without_torch(tmp_path):
    tool = str(ROOT / "tools/leaderboard.py")
    commands = [(tool, "list", "--kind", "all"), (tool, "schema"), (tool, "verify")]
    commands += [(tool, "show", "nothing"), (tool, "diff", "one", "other")]
    for _, loaded, printed in start(*commands, cwd=tmp_path):
        assert printed or loaded
        assert not {"mmengine", "numpy", "scipy", "torch"} & set(loaded)


def test_names_are_those_that_there_are():
    assert list(LAYOUTS) == list(checkpoints.LAYOUTS)
    assert list(arguments.FAMILIES) == list(networks.FAMILIES)
    assert list(arguments.DTYPES) == list(networks.DTYPES)
    assert list(arguments.COUPLINGS) == ["none", *COUPLINGS]
    assert list(arguments.REPORTS) == list(reports.REPORTS)
    tool = (ROOT / "tools/analysis/scaling_law.py").read_text()
    assert f"choices={tuple(COSTS)}".replace("'", '"') in tool
