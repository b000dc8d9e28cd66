"""What the doctor finds, with every ailment faked, and on this installation."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmrev import doctor
from mmrev.compatibility import ENGINE, TOOLBOXES, Package
from mmrev.doctor import Finding, Probe

HEALTHY = Probe(None, {})
CPU = Probe(None, {"cuda": "12.8", "gpus": 0, "available": False})
GPU = Probe(
    None,
    {
        "cuda": "12.8",
        "gpus": 2,
        "available": True,
        "name": "H100",
        "arch": "sm_90",
        "archs": ["sm_80", "sm_90"],
    },
)


@pytest.fixture
def installed(monkeypatch):
    """Decide which distributions the packages find."""

    def use(found: dict[str, tuple[str, str]]) -> None:
        monkeypatch.setattr(Package, "installed", lambda self: found.get(self.module))

    return use


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 9, 9), "broken"),
        ((3, 10, 0), "ok"),
        ((3, 12, 1), "ok"),
        ((3, 14), "broken"),
    ],
)
def test_python(version, status):
    assert doctor.check_python(version).status == status


@pytest.mark.parametrize(
    ("version", "error", "status"),
    [
        ("2.10.0+cu128", None, "ok"),
        ("2.3.1", None, "broken"),
        ("2.15.0", None, "ok"),
        ("2.10.0", "OSError: libcudart.so.12", "broken"),
        (None, "it is not installed", "broken"),
    ],
)
def test_torch(version, error, status):
    finding = doctor.check_torch(version, Probe(error, {}))
    assert finding.status == status
    assert "torch==2.10.0" in finding.remedy or status == "ok"


def test_an_absent_toolbox_is_no_fault_an_absent_engine_is(installed):
    installed({})
    gone = Probe("it is not installed", {})
    assert doctor.check_package(TOOLBOXES[0], gone).status == "warning"
    finding = doctor.check_package(ENGINE[0], gone)
    assert finding.status == "broken"
    assert "onedl-mmengine==0.10.12" in finding.remedy


def test_an_old_upstream_package_is_upgraded_not_replaced(installed):
    installed({"mmdet": ("mmdet", "2.28.0")})
    finding = doctor.check_package(TOOLBOXES[0], HEALTHY)
    assert finding.status == "broken"
    assert "'mmdet>=3.3.0'" in finding.remedy
    assert "onedl" not in finding.remedy


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("shapely.geometry", "pip install shapely"),
        ("skimage", "pip install scikit-image"),
        ("imgaug", "pip install --no-deps imaug"),
        ("mmcv._ext", "mend mmcv first"),
        ("cv2", "mend cv2 first"),
        ("mmdet.models", "--force-reinstall --no-deps onedl-mmdetection==3.5.1"),
    ],
)
def test_the_module_that_an_import_misses_is_named(installed, module, remedy):
    installed({"mmdet": ("onedl-mmdetection", "3.5.1")})
    probe = Probe(f"ModuleNotFoundError: No module named '{module}'", {})
    finding = doctor.check_package(TOOLBOXES[0], probe)
    assert finding.status == "broken"
    assert module in finding.found
    assert remedy in finding.remedy


MMCV = ("onedl-mmcv", "2.3.6")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        ("ImportError: _ext.so: undefined symbol: _ZN2at", "against another torch"),
        ("the process died (exit status -11)", "against another torch"),
        ("RuntimeError: nms kept [0] instead of [0, 2]", "nms kept [0]"),
    ],
)
def test_broken_ops_are_told_apart_and_compiled_anew(error, what):
    finding = doctor.check_ops(MMCV, "2.10.0", Probe(error, {}))
    assert finding.status == "broken"
    assert what in finding.found
    assert "make setup OPS=compiled" in finding.remedy
    assert "--no-build-isolation onedl-mmcv==2.3.6" in finding.remedy


@pytest.mark.parametrize(
    ("compiled", "what"),
    [(True, "compiled, CUDA: 12.8"), (False, "not compiled: torchvision")],
)
def test_sound_ops_say_what_computes(compiled, what):
    probe = Probe(None, {"cuda": "12.8", "compiled": compiled})
    finding = doctor.check_ops(MMCV, "2.10.0", probe)
    assert finding.status == "ok"
    assert finding.found.startswith(what)


def test_ops_of_nothing():
    assert doctor.check_ops(None, "2.10.0", HEALTHY).status == "broken"
    probe = Probe("ModuleNotFoundError: No module named 'mmcv._ext'", {})
    finding = doctor.check_ops(MMCV, "2.10.0", probe)
    assert finding.status == "broken"
    assert "nothing stands in" in finding.found
    assert "import mmrev" in finding.remedy


def test_torchvision():
    assert doctor.check_torchvision("0.25.0", "2.10.0", HEALTHY).status == "ok"
    assert doctor.check_torchvision(None, "2.10.0", HEALTHY).found == "missing"
    broken = Probe("RuntimeError: operator torchvision::nms does not exist", {})
    finding = doctor.check_torchvision("0.29.1", "2.10.0", broken)
    assert finding.status == "broken"
    assert "0.29.1 does not work beside torch 2.10.0" in finding.found
    assert "torch==2.10.0 torchvision==0.25.0" in finding.remedy


def test_opencv():
    sound = Probe(None, {"version": "4.12.0"})
    one = {"opencv-python-headless": True}
    two = {"opencv-python": False, "opencv-python-headless": True}
    assert doctor.check_opencv(one, sound).status == "ok"
    finding = doctor.check_opencv(two, sound)
    assert finding.status == "warning"
    assert "in place: opencv-python-headless" in finding.found
    assert "uninstall -y opencv-python opencv-python-headless" in finding.remedy
    mixed = doctor.check_opencv(dict.fromkeys(two, False), sound)
    assert "none, it is mixed" in mixed.found
    no_gl = Probe("ImportError: libGL.so.1: cannot open shared object file", {})
    finding = doctor.check_opencv({"opencv-python": True}, no_gl)
    assert finding.status == "broken"
    assert "the headless build does not" in finding.found
    assert doctor.check_opencv({}, Probe("missing", {})).status == "broken"
    assert doctor.check_opencv({}, sound).status == "ok"


def test_the_owner_of_cv2_is_found_by_the_hash_of_its_files():
    assert doctor.opencv_distributions() == {"opencv-python-headless": True}


@pytest.mark.parametrize(
    ("present", "torch", "ops", "status", "what"),
    [
        (False, CPU, "not available", "ok", "none"),
        (True, CPU, "not available", "broken", "cannot use it"),
        (True, Probe(None, CPU.facts | {"cuda": None}), "", "broken", "CPU build"),
        (True, GPU, "12.8", "ok", "2 x H100"),
        (True, GPU, "not available", "broken", "mmcv's ops are compiled for CUDA"),
        (True, GPU, "11.8", "broken", "compiled for CUDA 11.8"),
        (
            True,
            Probe(None, GPU.facts | {"arch": "sm_120"}),
            "12.8",
            "broken",
            "kernels only for sm_80 sm_90",
        ),
        (True, Probe("ImportError", {}), "", "warning", "unknown"),
    ],
)
def test_gpu(present, torch, ops, status, what):
    facts = {"cuda": ops, "compiled": True}
    finding = doctor.check_gpu(present, torch, Probe(None, facts))
    assert finding.status == status
    assert what in finding.found


def test_ops_that_are_not_compiled_serve_a_gpu():
    facts = {"cuda": "none (...)", "compiled": False}
    assert doctor.check_gpu(True, GPU, Probe(None, facts)).status == "ok"


def test_disk(tmp_path):
    assert doctor.check_disk(1_000_000_000, tmp_path).status == "warning"
    assert doctor.check_disk(90_000_000_000, tmp_path).status == "ok"


def test_probes_survive_errors_exits_and_crashes():
    found = doctor.run_probes(
        {
            "fine": "print('noise'); facts = dict(answer=42)",
            "raises": "raise ValueError('first line\\nsecond')",
            "exits": "import sys; sys.exit(3)",
            "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            "after": "facts = dict(alive=True)",
        }
    )
    assert found["fine"] == Probe(None, {"answer": 42})
    assert found["raises"].error == "ValueError: first line"
    assert found["exits"].error == "SystemExit: 3"
    assert "died" in found["crashes"].error
    assert found["after"] == Probe(None, {"alive": True})


@pytest.mark.parametrize(("status", "code"), [("broken", 1), ("warning", 0)])
def test_exit_status_and_remedies(monkeypatch, capsys, status, code):
    finding = Finding("cv2", status, "libGL [a] is missing", "pip install this")
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert doctor.main() == code
    printed = capsys.readouterr().out
    assert "libGL [a] is missing" in printed
    assert "to mend cv2: pip install this" in printed


@pytest.mark.ci
@pytest.mark.slow
def test_it_reports_where_nothing_is_installed():
    """Without site-packages: no torch, no rich, no mmengine."""
    root = Path(__file__).parent.parent
    run = subprocess.run(
        [sys.executable, "-S", "-m", "mmrev.doctor"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
    for subject in ("torch", "cv2", "mmengine", "mmcv", "mmcv.ops"):
        assert f"to mend {subject}: " in run.stdout


@pytest.mark.ci
@pytest.mark.slow
def test_this_installation_is_sound():
    run = subprocess.run(
        [sys.executable, "-m", "mmrev.doctor"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout
    assert "everything needed works" in run.stdout
