"""The decisions of the set-up, with every missing machine part faked."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmrev import bootstrap
from mmrev.bootstrap import SetupError

ROOT = Path(__file__).parent.parent
PY311 = {"version": [3, 11, 7], "bits": 64, "include": "/include", "ensurepip": True}


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


class FakeEnvironment(bootstrap.Environment):
    """An environment whose commands are noted, and install what they name."""

    def __init__(self, root: Path):
        super().__init__(root, PY311)
        self.site.mkdir(parents=True, exist_ok=True)
        self.commands = []
        self.problem = None

    def run(self, command, environment=None):
        self.commands.append(" ".join(command).replace(str(self.root), "ROOT"))
        if "-m venv" in self.commands[-1]:
            self.site.mkdir(parents=True)
        if "onedl-mmcv==2.3.6" in command:
            (self.site / "mmcv").mkdir(exist_ok=True)
            extension = self.site / "mmcv/_ext.cpython-311.so"
            extension.unlink(missing_ok=True)
            if "--no-build-isolation" in command:
                extension.write_text("ops")

    def ops_problem(self):
        return self.problem

    def did(self) -> list[str]:
        """What was run since the last time, without the programs' own names."""
        names = "ROOT/.venv/bin/uv pip ", " --python ROOT/.venv/bin/python"
        found = [
            one.replace(names[0], "").replace(names[1], "") for one in self.commands
        ]
        self.commands = []
        return found


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """That of a small clone on a machine without a GPU, with torch in it."""
    (tmp_path / "requirements").mkdir()
    texts = {"torch": "torch==2.10.0  # why\n", "suite": "onedl-mmcv==2.3.6\n"}
    for name, text in texts.items():
        (tmp_path / f"requirements/{name}.txt").write_text(text)
    monkeypatch.setattr(bootstrap, "find_nvcc", lambda: None)
    monkeypatch.setattr(bootstrap, "gpu_visible", lambda: False)
    monkeypatch.setattr(bootstrap, "probe", lambda _: PY311)
    quiet = subprocess.CompletedProcess([], 0, stdout="")
    monkeypatch.setattr(bootstrap.subprocess, "run", lambda *_, **__: quiet)
    found = FakeEnvironment(tmp_path)
    put_torch(found, "2.10.0", "'12.8'")
    return found


def put_torch(environment: FakeEnvironment, version: str, cuda: str) -> None:
    for info in environment.site.glob("torch-*"):
        info.joinpath("RECORD").unlink()
    bootstrap.sweep(environment.site)
    text = f"__version__ = '{version}'\ncuda: Optional[str] = {cuda}\n"
    install(environment.site, "torch", version, {"torch/version.py": text})


def test_nothing_is_compiled_by_itself(environment):
    environment.install()
    environment.provide_ops(False)
    torch, suite, own = environment.did()
    assert torch.startswith("install -c ROOT/requirements/constraints.txt -r ")
    assert "--no-build-isolation" not in torch + suite + own
    assert suite == (
        "install --no-deps --build-constraints ROOT/requirements/build.txt "
        "-r ROOT/requirements/suite.txt"
    )
    assert own.endswith("--editable ROOT")


def test_the_clone_is_installed_again_when_it_changed(environment):
    assert environment.is_changed()
    origin = environment.site / "mmrev-0.1.0.dist-info/direct_url.json"
    origin.parent.mkdir()
    for root in (environment.root / "other", environment.root):
        origin.write_text(json.dumps({"url": root.as_uri()}))
        assert environment.is_changed() is (root != environment.root)
    later = time.time() + 60
    os.utime(environment.root / "requirements/torch.txt", (later, later))
    assert environment.is_changed()


def test_ops_are_compiled_once_for_a_torch(environment, monkeypatch):
    environment.provide_ops(True)
    tools, ops = environment.did()
    assert tools == "install -r ROOT/requirements/build.txt"
    assert "--reinstall-package onedl-mmcv --no-build-isolation" in ops
    assert "onedl-mmcv:compiled-for=mmcv 2.3.6, torch 2.10.0, cpu" in ops
    environment.provide_ops(True)
    environment.provide_ops(False)
    assert environment.did() == []  # they stay
    monkeypatch.setattr(bootstrap, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
    monkeypatch.setattr(bootstrap, "nvcc_release", lambda _: "12.8")
    environment.provide_ops(True)
    assert "torch 2.10.0, cuda native" in environment.did()[-1]


def test_ops_of_another_torch_go_or_are_compiled_anew(environment):
    environment.provide_ops(True)
    put_torch(environment, "2.14.1", "None")
    environment.did()
    environment.provide_ops(True)
    assert "torch 2.14.1, cpu" in environment.did()[-1]
    put_torch(environment, "2.10.0", "None")
    environment.provide_ops(False)
    (command,) = environment.did()
    assert "--reinstall-package onedl-mmcv" in command
    assert "--no-build-isolation" not in command


def test_ops_that_somebody_else_compiled_stay_if_they_load(environment):
    (environment.site / "mmcv").mkdir()
    (environment.site / "mmcv/_ext.cpython-311.so").write_text("ops")
    environment.problem = "undefined symbol"
    environment.provide_ops(False)
    assert len(environment.did()) == 1  # they go
    (environment.site / "mmcv/_ext.cpython-311.so").write_text("ops")
    environment.problem = None
    environment.provide_ops(False)
    environment.problem = "asked once"
    environment.provide_ops(False)
    assert environment.did() == []


def test_ops_that_do_not_load_are_told(environment):
    environment.problem = "undefined symbol"
    with pytest.raises(SetupError, match="do not load: undefined symbol"):
        environment.provide_ops(True)
    environment.problem = None
    environment.provide_ops(True)  # and tried again
    assert len(environment.did()) == 4


def test_an_environment_of_another_python_is_made_anew(environment, monkeypatch):
    environment.prepare()
    assert [one.partition(" -m ")[2] for one in environment.did()] == [
        "ensurepip",
        f"pip install --quiet --disable-pip-version-check {bootstrap.UV}",
    ]
    monkeypatch.setattr(bootstrap, "probe", lambda _: PY311 | {"version": [3, 12, 1]})
    environment.interpreter = PY311 | {"executable": "python3.11"}
    environment.prepare()
    assert "python3.11 -I -m venv ROOT/.venv" in environment.did()
    assert not list(environment.site.glob("torch-*"))


def test_what_is_damaged_leaves_the_cache_too(environment):
    install(environment.site, "uv", bootstrap.UV.partition("==")[2], {"uv/a.py": ""})
    install(environment.site, "rich", "15.0.0", {"rich/console.py": "as it was"})
    (environment.site / "rich/console.py").write_text("edited")
    environment.prepare()
    assert environment.did() == ["ROOT/.venv/bin/uv cache clean rich"]


def test_the_other_opencv_goes(environment):
    install(environment.site, "opencv_python", "4.12", {"cv2/a.py": ""})
    environment.install()
    assert "uninstall opencv_python opencv-python-headless" in environment.did()


@pytest.mark.parametrize("status", [0, 2])
def test_cuda_is_left_out_where_nothing_would_use_it(environment, monkeypatch, status):
    """And where the index of such builds answers."""
    trials = []

    def run(command, **settings):
        trials.append(command)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(bootstrap.subprocess, "run", run)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert environment.cpu_only() == ()  # there is a torch
    (environment.site / "torch-2.10.0.dist-info/RECORD").unlink()
    bootstrap.sweep(environment.site)
    assert environment.cpu_only() == (("--torch-backend", "cpu") if not status else ())
    assert "--dry-run" in trials[0] and "torch==2.10.0" in trials[0]
    monkeypatch.setattr(bootstrap, "gpu_visible", lambda: True)
    assert environment.cpu_only() == ()
    monkeypatch.setattr(bootstrap, "gpu_visible", lambda: False)
    environment.settings["UV_DEFAULT_INDEX"] = "https://index.example/simple"
    assert environment.cpu_only() == ()
    assert len(trials) == 1


def test_the_indexes_are_those_of_pip(monkeypatch):
    for name in (*bootstrap.FROM_PIP.values(), "UV_INDEX_STRATEGY"):
        monkeypatch.delenv(name, raising=False)
    listed = "\n".join(
        [
            ":env:.find-links='/wheels /more'",
            "global.index-url='https://index.example/simple'",
            "global.extra-index-url='https://one.example https://two.example'",
            "install.no-deps='false'",
        ]
    )
    assert bootstrap.index_settings(listed) == {
        "UV_FIND_LINKS": "/wheels,/more",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "https://one.example https://two.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    monkeypatch.setenv("UV_INDEX", "https://mine.example")
    assert "UV_INDEX" not in bootstrap.index_settings(listed)
    assert bootstrap.index_settings("") == {}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os.kill(os.getpid(), 9)", r"ended from outside \(signal 9\)"),
        ("raise SystemExit(2)", r"failed \(exit status 2\); the lines above say why"),
    ],
)
def test_a_command_that_fails_is_told(tmp_path, code, why):
    environment = bootstrap.Environment(tmp_path, PY311)
    with pytest.raises(SetupError, match=why) as error:
        environment.run([sys.executable, "-c", code])
    assert "make setup" in error.value.do


def test_sweep_removes_what_an_interrupted_pip_left(tmp_path):
    whole = install(tmp_path, "whole", "1", {"whole.py": "x"})
    cut = install(tmp_path, "cut", "1", {"cut.py": "x"})
    (cut / "RECORD").unlink()
    assert bootstrap.sweep(tmp_path) == {"cut-1": "was not installed to the end"}
    assert whole.exists()
    assert not cut.exists()


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


@pytest.mark.parametrize(
    ("nvcc", "why"), [(None, "there is none"), ("11.8", "CUDA 11.8")]
)
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
    with pytest.raises(SetupError, match=r"3\.0 GB free at .*, 10 GB are needed"):
        bootstrap.check_disk(3_000_000_000, tmp_path)
    bootstrap.check_disk(15_000_000_000, tmp_path)


def test_python_choice(monkeypatch, tmp_path):
    known = {
        "python3": {"version": [3, 9, 0], "bits": 64},
        "python3.11": PY311,
        "python3.10": {"version": [3, 10, 2], "bits": 32},
    }
    monkeypatch.setattr(bootstrap, "probe", known.get)
    names = ("python3", "python3.12", "python3.11")
    assert bootstrap.choose_python(None, tmp_path, names) is PY311
    with pytest.raises(SetupError, match=r"python3 is Python 3\.9\.0") as error:
        bootstrap.choose_python("python3", tmp_path, names)
    assert "make setup PYTHON=python3.11" in error.value.do
    with pytest.raises(SetupError, match="32 bit"):
        bootstrap.choose_python("python3.10", tmp_path, names)
    with pytest.raises(SetupError, match=r"python3\.12 is no working Python"):
        bootstrap.choose_python("python3.12", tmp_path, names)
    with pytest.raises(SetupError, match="none was found") as error:
        bootstrap.choose_python(None, tmp_path, ("python3",))
    assert "apt-get install python3 python3-venv" in error.value.do


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
        lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
        for line in filter(None, lines):
            name, separator, version = line.partition("==")
            assert separator, f"{path.name}: {line}"
            assert seen.setdefault(name, version) == version, line


def test_it_runs_by_path_without_any_package(tmp_path):
    command = [sys.executable, "-I", "-S", str(ROOT / "mmrev/bootstrap.py"), "--python"]
    run = subprocess.run(
        [*command, "no-such-python"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "make setup failed: no-such-python is no working Python" in run.stderr
    assert "Traceback" not in run.stderr
