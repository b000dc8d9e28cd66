"""The decisions of the set-up, with every missing machine part faked."""

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from io import StringIO
from pathlib import Path

import pytest

from mmrev import bootstrap
from mmrev.bootstrap import SetupError

ROOT = Path(__file__).parent.parent
PY311 = {"version": [3, 11, 7], "bits": 64, "include": "/include"}
STEPS = ["python", "torch", "libraries", "mmcv", "toolboxes", "mmrev"]


def install(site: Path, name: str, version: str, files: dict[str, str]) -> Path:
    """A distribution in a site-packages folder, as pip leaves it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\n")
    lines = [f"{info.name}/RECORD,,", f"{info.name}/METADATA,,"]
    for file, text in files.items():
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        value = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
        lines.append(f"{file},sha256={value.decode().rstrip('=')},{len(text)}")
    (info / "RECORD").write_text("\n".join(lines))
    return info


class FakeSetup(bootstrap.Setup):
    """A set-up whose steps only note that they ran, or fail as told."""

    def __init__(self, root: Path, fail: str | None = None):
        display = bootstrap.Display(StringIO())
        super().__init__(root, PY311, display, StringIO())
        self.fail = fail
        self.ran = []
        self.site.mkdir(parents=True, exist_ok=True)

    def answers(self) -> bool:
        return (self.venv / "bin/python").exists()

    def step(self, name: str) -> None:
        if name == self.fail:
            raise SetupError("a reason", "a remedy")
        self.ran.append(name)

    def step_python(self):
        self.step("python")
        (self.venv / "bin").mkdir(exist_ok=True)
        (self.venv / "bin/python").touch()

    def step_torch(self):
        self.step("torch")
        if not list(self.site.glob("torch-*")):
            install(self.site, "torch", "2.10.0", {"torch/a.py": "torch"})

    def step_libraries(self):
        self.step("libraries")
        if not list(self.site.glob("rich-*")):
            install(self.site, "rich", "15.0.0", {"rich/a.py": "rich"})

    def step_mmcv(self):
        self.step("mmcv")
        if not list(self.site.glob("onedl_mmcv-*")):
            install(self.site, "onedl_mmcv", "2.3.6", {"mmcv/_ext.so": "ops"})

    def step_toolboxes(self):
        self.step("toolboxes")

    def step_mmrev(self):
        self.step("mmrev")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A clone with small requirement files on a machine without a GPU."""
    (tmp_path / "requirements").mkdir()
    texts = {
        "build": "torch==2.10.0  # why\n",
        "suite": "onedl-mmcv==2.3.6\n",
        "runtime": "rich==15.0.0\n",
        "demo": "",
        "tests": "",
        "constraints": "",
    }
    for name, text in texts.items():
        (tmp_path / f"requirements/{name}.txt").write_text(text)
    (tmp_path / "mmrev").mkdir()
    (tmp_path / "mmrev/__init__.py").write_text("")
    (tmp_path / "setup.py").write_text("")
    monkeypatch.setattr(bootstrap, "check_compiler", lambda *_: None)
    monkeypatch.setattr(bootstrap, "check_disk", lambda *_: None)
    monkeypatch.setattr(bootstrap, "find_nvcc", lambda: None)
    monkeypatch.setattr(bootstrap, "gpu_visible", lambda: False)
    return tmp_path


def test_first_run_does_every_step_in_order_and_second_none(root):
    assert FakeSetup(root).run() == STEPS
    again = FakeSetup(root)
    assert again.run() == []
    assert again.ran == []


def test_a_comment_in_the_requirements_changes_nothing(root):
    FakeSetup(root).run()
    (root / "requirements/build.txt").write_text("# why not\n\ntorch==2.10.0\n")
    assert FakeSetup(root).run() == []


def test_another_torch_compiles_the_ops_anew(root):
    FakeSetup(root).run()
    (root / "requirements/build.txt").write_text("torch==2.9.0\n")
    assert FakeSetup(root).run() == ["torch", "mmcv"]


def test_another_python_does_everything_anew(root):
    FakeSetup(root).run()
    other = FakeSetup(root)
    other.interpreter = PY311 | {"version": [3, 12, 1]}
    other.answers = lambda: False
    assert other.run() == STEPS


def test_cuda_compiler_that_appears_compiles_the_ops_anew(root, monkeypatch):
    FakeSetup(root).run()
    monkeypatch.setattr(bootstrap, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
    assert FakeSetup(root).run() == ["mmcv"]
    # The image was built without a GPU; running it with one is no reason to build.
    monkeypatch.setattr(bootstrap, "gpu_visible", lambda: True)
    assert FakeSetup(root).run() == []


@pytest.mark.parametrize("number", range(len(STEPS)))
def test_a_run_that_failed_goes_on_at_the_failed_step(root, number):
    step = STEPS[number]
    with pytest.raises(SetupError) as error:
        FakeSetup(root, fail=step).run()
    assert error.value.step == f"step {number + 1} of 6 ({step})"
    assert FakeSetup(root).run() == STEPS[number:]


def test_a_deleted_file_is_repaired_without_compiling(root):
    FakeSetup(root).run()
    setup = FakeSetup(root)
    (setup.site / "rich/a.py").unlink()
    assert setup.run() == ["python", "torch", "libraries", "toolboxes", "mmrev"]
    assert "repairing: rich-15.0.0 lacks rich/a.py" in setup.display.stream.getvalue()
    assert FakeSetup(root).run() == []


def test_damaged_ops_are_compiled_anew(root):
    FakeSetup(root).run()
    setup = FakeSetup(root)
    (setup.site / "mmcv/_ext.so").write_text("damaged")
    assert "mmcv" in setup.run()
    assert (setup.site / "mmcv/_ext.so").read_text() == "ops"


def test_a_removed_or_upgraded_distribution_is_noticed(root):
    FakeSetup(root).run()
    setup = FakeSetup(root)
    info = setup.site / "rich-15.0.0.dist-info"
    info.rename(setup.site / "rich-16.0.0.dist-info")
    assert "libraries" in setup.run()
    printed = setup.display.stream.getvalue()
    assert "repairing: rich is 16.0.0 instead of 15.0.0" in printed


def test_an_unreadable_stamp_file_counts_as_none(root):
    FakeSetup(root).run()
    (root / ".venv/mmrev-setup.json").write_text('{"steps": {"pyth')
    assert FakeSetup(root).run() == STEPS


def test_sweep_removes_what_an_interrupted_pip_left(tmp_path):
    whole = install(tmp_path, "whole", "1", {"whole.py": "x"})
    cut = install(tmp_path, "cut", "1", {"cut.py": "x"})
    (cut / "RECORD").unlink()
    (tmp_path / "~orch").mkdir()
    assert bootstrap.sweep(tmp_path) == ["cut-1 was not installed to the end"]
    assert whole.exists()
    assert not cut.exists()
    assert not (tmp_path / "~orch").exists()


@pytest.mark.parametrize("name", ["torch", "numpy", "rich", "pytest"])
def test_what_pip_really_installed_is_not_taken_for_damaged(name):
    site = Path(pytest.__file__).parent.parent
    (info,) = site.glob(f"{name}-[0-9]*.dist-info")
    assert bootstrap.damage(info) is None


@pytest.mark.parametrize(
    ("torch_cuda", "nvcc", "gpu", "target"),
    [
        (None, None, True, "cpu"),
        (None, "12.8", False, "cpu"),
        ("12.8", None, False, "cpu"),
        ("12.8", "12.4", False, "cuda"),
        ("12.8", "12.8", True, "cuda"),
        ("12.8", "11.8", False, "cpu"),
    ],
)
def test_ops_target(torch_cuda, nvcc, gpu, target):
    assert bootstrap.ops_target(torch_cuda, nvcc, gpu) == target


@pytest.mark.parametrize(("nvcc", "why"), [(None, "nvcc"), ("11.8", "CUDA 11.8")])
def test_a_gpu_without_a_fitting_compiler_is_an_error(nvcc, why):
    with pytest.raises(SetupError, match="CUDA") as error:
        bootstrap.ops_target("12.8", nvcc, True)
    assert why in error.value.why
    assert "CUDA_HOME" in error.value.do


@pytest.mark.parametrize(
    ("cores", "gigabytes", "jobs"), [(2, 24.0, 2), (64, 16.0, 6), (8, 1.0, 1)]
)
def test_build_jobs(cores, gigabytes, jobs):
    assert bootstrap.build_jobs(cores, gigabytes) == jobs


def test_missing_compiler_and_headers_are_named(tmp_path):
    with pytest.raises(SetupError, match="no C\\+\\+ compiler") as error:
        bootstrap.check_compiler(None, tmp_path, "python3.11")
    assert "apt-get install g++" in error.value.do
    with pytest.raises(SetupError, match=r"Python\.h") as error:
        bootstrap.check_compiler("c++", tmp_path, "python3.12")
    assert "python3.12-dev" in error.value.do
    (tmp_path / "Python.h").touch()
    bootstrap.check_compiler("c++", tmp_path, "python3.12")


def test_too_small_a_disk_is_named(tmp_path):
    with pytest.raises(SetupError, match=r"3\.0 GB free at .*about 14 GB"):
        bootstrap.check_disk(3_000_000_000, tmp_path, 14)
    bootstrap.check_disk(15_000_000_000, tmp_path, 14)


def test_python_choice(monkeypatch, tmp_path):
    known = {
        "python3": {"version": [3, 13, 0], "bits": 64},
        "python3.11": PY311,
        "python3.10": {"version": [3, 10, 2], "bits": 32},
    }
    monkeypatch.setattr(bootstrap, "probe", known.get)
    names = ("python3", "python3.12", "python3.11")
    assert bootstrap.choose_python(None, tmp_path, names) is PY311
    with pytest.raises(SetupError, match=r"python3 is Python 3\.13\.0") as error:
        bootstrap.choose_python("python3", tmp_path, names)
    assert "make setup PYTHON=python3.11" in error.value.do
    with pytest.raises(SetupError, match="32 bit"):
        bootstrap.choose_python("python3.10", tmp_path, names)
    with pytest.raises(SetupError, match=r"python3\.12 is no working Python"):
        bootstrap.choose_python("python3.12", tmp_path, names)
    with pytest.raises(SetupError, match="none was found") as error:
        bootstrap.choose_python(None, tmp_path, ("python3",))
    assert "apt-get install python3.11" in error.value.do


def test_an_environment_keeps_its_python_unless_another_is_asked_for(
    monkeypatch, tmp_path
):
    own = {"version": [3, 10, 13], "bits": 64}
    known = {str(tmp_path / "bin/python"): own, "python3.11": PY311}
    monkeypatch.setattr(bootstrap, "probe", known.get)
    assert bootstrap.choose_python(None, tmp_path, ("python3.11",)) is own
    assert bootstrap.choose_python("python3.11", tmp_path, ()) is PY311


def test_probe_of_a_real_python_and_of_none():
    found = bootstrap.probe(sys.executable)
    assert found["version"] == list(sys.version_info[:3])
    assert (Path(found["include"]) / "patchlevel.h").exists()
    assert bootstrap.probe("no-such-python") is None


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("NewConnectionError: Failed to establish", "index cannot be reached"),
        ("Temporary failure in name resolution", "index cannot be reached"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory"),
        ("#error C++20 or later compatible compiler is required", "C++20"),
        ("fatal error: Python.h: No such file or directory", "headers"),
        ("detected CUDA version (11.8) mismatches", "CUDA toolkit"),
        ("No matching distribution found for torch==2.10.0", "no torch==2.10.0"),
        ("error: command '/usr/bin/g++' failed with exit code 1", "compiler failed"),
        ("strange\nERROR: something else\nend", "ERROR: something else"),
        ("", "it printed nothing"),
    ],
)
def test_a_failed_command_is_explained(output, why):
    error = bootstrap.diagnose(output)
    assert why in error.why
    assert "make setup" in error.do


def test_progress_is_read_from_pip():
    reader = bootstrap.ProgressReader()
    assert reader.read("Collecting torch==2.10.0 (from -r build.txt)") == (
        "fetching torch"
    )
    assert reader.read("  Downloading torch-2.10.0-cp311.whl (899 MB)\n") == (
        "fetching torch"
    )
    assert reader.read("Progress 450000000 of 900000000") == (
        "fetching torch: 450 of 900 MB"
    )
    assert reader.read("  [12/78] c++ -MMD") == "compiling: file 12 of 78"
    assert reader.read("Installing collected packages: a, b, c") == (
        "unpacking 3 packages"
    )
    assert reader.read("Requirement already satisfied: six") is None


class Terminal(StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_progress_goes_on_while_a_command_says_nothing():
    display = bootstrap.Display(StringIO(), interval=0.01)
    with display.ticking():
        display.doing = "unpacking 9 packages"
        while display.stream.getvalue().count("unpacking 9 packages") < 2:
            pass
    lines = display.stream.getvalue().splitlines()
    assert lines[-1].strip() == "unpacking 9 packages (0 s)"


def test_a_terminal_gets_one_line_that_is_rewritten():
    display = bootstrap.Display(Terminal())
    display.interval = 0.01
    with display.ticking():
        while display.stream.getvalue().count("starting") < 2:
            pass
    display.line("done")
    printed = display.stream.getvalue()
    assert printed.count("\n") == 1
    assert printed.endswith("\r\x1b[Kdone\n")


def test_a_command_leaves_its_output_in_the_log_and_its_cause_in_the_error(root):
    setup = FakeSetup(root)
    with (root / "log").open("w") as setup.log:
        code = "print('Collecting six'); raise SystemExit('ReadTimeout')"
        with pytest.raises(SetupError, match="index cannot be reached"):
            setup.command([sys.executable, "-c", code])
    assert "Collecting six\n" in (root / "log").read_text()
    assert setup.display.doing == "fetching six"


def test_a_command_that_was_killed_is_told_from_one_that_failed(root):
    setup = FakeSetup(root)
    with (root / "log").open("w") as setup.log:
        code = "import os; os.kill(os.getpid(), 9)"
        with pytest.raises(SetupError, match="ended from outside by signal 9"):
            setup.command([sys.executable, "-c", code])


def add_wheel(cache: Path, tag: str, text: str) -> Path:
    path = cache / f"wheels/aa/onedl_mmcv-2.3.6-{tag}-{tag}-linux_x86_64.whl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mmcv/_ext.so", text)
    return path


def test_only_wheels_of_another_torch_leave_the_cache(tmp_path):
    ours = add_wheel(tmp_path, "cp311", "torch 2.10")
    other_python = add_wheel(tmp_path, "cp312", "torch 2.9")
    cache = bootstrap.WheelCache(tmp_path, "onedl_mmcv", "cp311")
    cache.drop_stale("torch 2.10, cpu")
    assert ours.exists(), "a wheel that nobody noted is tried"
    cache.remember("torch 2.10, cpu")
    cache.drop_stale("torch 2.10, cpu")
    assert ours.exists()
    cache.drop_stale("torch 2.10, cuda")
    assert not ours.exists()
    assert other_python.exists()


def test_a_wheel_cut_short_leaves_the_cache(tmp_path):
    wheel = add_wheel(tmp_path, "cp311", "x" * 1000)
    wheel.write_bytes(wheel.read_bytes()[:100])
    bootstrap.WheelCache(tmp_path, "onedl_mmcv", "cp311").drop_stale("any")
    assert not wheel.exists()


def test_torch_build_is_read_without_import(tmp_path):
    (tmp_path / "torch").mkdir()
    version = tmp_path / "torch/version.py"
    version.write_text("__version__ = '2.10.0+cu128'\ncuda: Optional[str] = '12.8'\n")
    assert bootstrap.torch_build(tmp_path) == ("2.10.0+cu128", "12.8")
    version.write_text("__version__ = '2.10.0+cpu'\ncuda: Optional[str] = None\n")
    assert bootstrap.torch_build(tmp_path) == ("2.10.0+cpu", None)


def test_every_requirement_is_pinned_once():
    seen = {}
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        for line in bootstrap.essence(path.read_text()).splitlines():
            name, separator, version = line.partition("==")
            assert separator, f"{path.name}: {line}"
            assert seen.setdefault(name, version) == version, line


def test_it_runs_by_path_without_any_package(tmp_path):
    command = [sys.executable, "-I", "-S", str(ROOT / "mmrev/bootstrap.py"), "--python"]
    run = subprocess.run(
        [*command, "no-such-python"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "make setup failed: checks before the first step" in run.stdout
    assert "no-such-python is no working Python" in run.stdout
    assert "Traceback" not in run.stderr


def test_stamps_survive_a_kill_while_they_are_written(tmp_path, monkeypatch):
    path = tmp_path / "stamps.json"
    stamps = bootstrap.Stamps(path)
    stamps.set("python", "one")

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap.os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        stamps.set("torch", "two")
    assert json.loads(path.read_text())["steps"] == {"python": "one"}
