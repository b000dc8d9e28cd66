"""Check an installation and name what is broken and how to mend it.

``python -m mmrev.doctor`` prints a table and exits with 1 if something that is needed
does not work. It runs with nothing but Python installed: rich, torch and the toolboxes
are examined, not relied upon.
"""

import base64
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mmrev.compatibility import ENGINE, TOOLBOXES, Package, release

PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
TORCH = "2.4"
"""The oldest torch that is accepted; see README for those that were tried."""
FREE_GB = 5.0
MAKE = "in a clone of mmrev: make setup"
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)

DISTRIBUTION_OF = {
    "PIL": "pillow",
    "imgaug": "--no-deps imaug",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Args:
        subject: what was examined.
        status: ``'broken'`` makes the exit status 1, ``'warning'`` does not.
        found: what is there.
        remedy: the command that mends it, empty if nothing needs mending.
    """

    subject: str
    status: Literal["ok", "warning", "broken"]
    found: str
    remedy: str = ""


@dataclass(frozen=True)
class Probe:
    """What a fresh process found when it tried a module.

    Args:
        error: why it failed, None if it worked.
        facts: what it reported besides.
    """

    error: str | None
    facts: dict


# Each runs in a process of its own order: a crash of compiled code ends only that.
PROBES = {
    "torch": """
import torch
facts = dict(cuda=torch.version.cuda, gpus=torch.cuda.device_count(),
             available=torch.cuda.is_available())
if facts['available']:
    facts['name'] = torch.cuda.get_device_name()
    facts['arch'] = 'sm_%d%d' % torch.cuda.get_device_capability()
    facts['archs'] = torch.cuda.get_arch_list()
    torch.ones(2, device='cuda').sum().item()
""",
    "cv2": """
import cv2
facts = dict(version=cv2.__version__)
""",
    "torchvision": """
import torch, torchvision
kept = torchvision.ops.nms(torch.tensor([[0., 0., 4., 4.]]), torch.ones(1), .5).tolist()
if kept != [0]:
    raise RuntimeError('nms kept %s instead of [0]' % kept)
""",
    "mmengine": "import mmengine.runner",
    "mmcv": "import mmcv",
    "mmcv.ops": """
import torch
import mmcv._ext
from mmcv.ops import get_compiling_cuda_version, nms
boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 3.9], [5., 5., 9., 9.]])
scores = torch.tensor([.9, .8, .7])
facts = dict(compiled=not str(mmcv._ext.__file__).endswith('.py'),
             cuda=get_compiling_cuda_version())
kept = nms(boxes, scores, .5)[1].tolist()
if kept != [0, 2]:
    raise RuntimeError('nms kept %s instead of [0, 2]' % kept)
if torch.cuda.is_available():
    kept = nms(boxes.cuda(), scores.cuda(), .5)[1].tolist()
    if kept != [0, 2]:
        raise RuntimeError('nms on the GPU kept %s instead of [0, 2]' % kept)
""",
    "mmdet": "import mmdet.models, mmdet.datasets",
    "mmseg": "import mmseg.models, mmseg.datasets",
    "mmpretrain": "import mmpretrain.models, mmpretrain.datasets",
    "mmrev": """
from mmrev.registry import MODELS
MODELS.get('mmrev.RevCol').__name__
""",
}

RUN_PROBES = """
import contextlib, io, json, sys, warnings
warnings.simplefilter('ignore')
for name, code in json.load(sys.stdin):
    scope, error = {}, None
    print(json.dumps(dict(name=name)), flush=True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(code, scope)
    except BaseException as failure:
        lines = str(failure).strip().splitlines() or ['']
        error = '%s: %s' % (type(failure).__name__, lines[0])
    report = dict(name=name, error=error, facts=scope.get('facts', {}))
    print(json.dumps(report), flush=True)
"""


def run_probes(probes: dict[str, str]) -> dict[str, Probe]:
    """Run some code in a fresh process, which may crash.

    Args:
        probes: name -> code; it may leave a dict ``facts``.

    Returns:
        name -> what came of it; a process that a probe took down is started anew
        with the probes after it.
    """
    results: dict[str, Probe] = {}
    while remaining := [(name, probes[name]) for name in probes if name not in results]:
        run = subprocess.run(
            [sys.executable, "-c", RUN_PROBES],
            input=json.dumps(remaining),
            capture_output=True,
            text=True,
            check=False,
        )
        started = remaining[0][0]
        for line in run.stdout.splitlines():
            report = json.loads(line)
            started = report["name"]
            if "error" in report:
                results[started] = Probe(report["error"], report["facts"])
        if run.returncode:
            crash = f"the process died (exit status {run.returncode})"
            results[started] = Probe(crash, {})
    return results


def check_python(version: tuple[int, ...]) -> Finding:
    """Whether this Python is one that the stack has wheels for."""
    found = ".".join(map(str, version[:3]))
    if version[:2] in PYTHONS:
        return Finding("Python", "ok", found)
    return Finding(
        "Python", "broken", f"{found}; needed: 3.10 to 3.13", "make setup PYTHON=..."
    )


def check_torch(version: str | None, probe: Probe) -> Finding:
    """Whether torch imports and is new enough."""
    remedy = f"pip install torch==2.10.0 torchvision==0.25.0 ({MAKE})"
    if version is None:
        return Finding("torch", "broken", "missing", remedy)
    if probe.error:
        return Finding("torch", "broken", f"{version}, {probe.error}", remedy)
    if release(version) < release(TORCH):
        found = f"{version}; accepted: from {TORCH}"
        return Finding("torch", "broken", found, remedy)
    return Finding("torch", "ok", version)


def check_torchvision(version: str | None, torch: str | None, probe: Probe) -> Finding:
    """Whether torchvision's operators, which compute mmcv's, work with this torch."""
    remedy = f"pip install torch==2.10.0 torchvision==0.25.0 ({MAKE})"
    if version is None:
        return Finding("torchvision", "broken", "missing", remedy)
    if probe.error:
        what = f"{version} does not work beside torch {torch}: {probe.error}"
        return Finding("torchvision", "broken", what, remedy)
    return Finding("torchvision", "ok", version)


def check_package(package: Package, probe: Probe) -> Finding:
    """Whether an OpenMMLab package is there, new enough, and imports."""
    name = package.distributions[0]
    found = package.installed()
    complaint = package.complaint()
    if found is None:
        severity = "warning" if package in TOOLBOXES else "broken"
        what = f"{complaint}; needed for {package.purpose}"
        remedy = f"pip install --no-deps {name}=={package.tried} ({MAKE})"
        return Finding(package.module, severity, what, remedy)
    label = "{} {}".format(*found)
    if complaint:  # the distribution that is there stays, upstream's or the other
        remedy = f"pip install '{found[0]}>={package.minimum}'"
        return Finding(package.module, "broken", complaint, remedy)
    if probe.error:
        missing = probe.error.partition("No module named ")[2].strip("'\"")
        remedy = mend_missing(missing.partition(".")[0], package) if missing else MAKE
        return Finding(package.module, "broken", f"{label}, {probe.error}", remedy)
    return Finding(package.module, "ok", label)


def mend_missing(module: str, package: Package) -> str:
    """The command for a module that a package failed to import."""
    if module == package.module:
        name, version = package.installed()
        return f"pip install --force-reinstall --no-deps {name}=={version} ({MAKE})"
    if module in PROBES:
        return f"mend {module} first"
    return f"pip install {DISTRIBUTION_OF.get(module, module)} ({MAKE})"


def check_ops(mmcv: tuple[str, str] | None, torch: str | None, probe: Probe) -> Finding:
    """Whether mmcv's ops, compiled or not, load with this torch and compute."""
    subject = "mmcv.ops"
    if mmcv is None or torch is None:
        return Finding(subject, "broken", "needs torch and mmcv", MAKE)
    name, version = mmcv
    rebuild = (
        "in a clone of mmrev: make setup OPS=compiled; elsewhere: pip install "
        f"--no-cache-dir --force-reinstall --no-deps --no-build-isolation {name}=="
        f"{version}"
    )
    if probe.error is None and not probe.facts["compiled"]:
        return Finding(subject, "ok", "not compiled: torchvision and torch compute")
    if probe.error is None:
        return Finding(subject, "ok", f"compiled, CUDA: {probe.facts['cuda']}")
    if "No module named 'mmcv._ext'" in probe.error:
        what = f"{name} {version} has no compiled ops, and nothing stands in for them"
        remedy = (
            f"pip install --no-deps mmrev, or import mmrev before mmcv.ops ({MAKE})"
        )
        return Finding(subject, "broken", what, remedy)
    if "undefined symbol" in probe.error or "died" in probe.error:
        what = f"compiled against another torch than {torch}: {probe.error}"
    else:
        what = probe.error
    return Finding(subject, "broken", what, rebuild)


def opencv_distributions() -> dict[str, bool]:
    """Name -> whether its files are the ones that lie in the folder ``cv2``.

    All builds of opencv write into the same folder, so the last one installed wins,
    and removing either breaks the other.
    """
    owners = {}
    for name in OPENCV:
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue
        library = [
            file
            for file in files
            if file.parent.name == "cv2" and file.name.endswith((".so", ".pyd"))
        ]
        owners[name] = bool(library) and all(map(is_unchanged, library))
    return owners


def is_unchanged(file: metadata.PackagePath) -> bool:
    """Whether an installed file is still the one its package brought."""
    path = Path(file.locate())
    if file.hash is None or not path.exists():
        return False
    value = hashlib.new(file.hash.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode() == file.hash.value


def check_opencv(owners: dict[str, bool], probe: Probe) -> Finding:
    """Whether cv2 imports, and belongs to one distribution only."""
    headless = "opencv-python-headless"
    names = " ".join(owners)
    remedy = f"pip uninstall -y {names}; pip install --no-deps {headless}==4.12.0.88"
    if not owners:
        remedy = remedy.partition("; ")[2]
        if probe.error:
            return Finding("cv2", "broken", "missing", remedy)
        return Finding("cv2", "ok", f"{probe.facts['version']}, not installed by pip")
    winner = next((name for name, wins in owners.items() if wins), "none, it is mixed")
    label = f"{names}; in place: {winner}" if len(owners) > 1 else names
    if probe.error:
        if "libGL" in probe.error:
            label += " (it needs a desktop's libGL, the headless build does not)"
        return Finding("cv2", "broken", f"{label}; {probe.error}", remedy)
    if len(owners) > 1:
        return Finding("cv2", "warning", f"{label}: they overwrite each other", remedy)
    return Finding("cv2", "ok", f"{label} {probe.facts['version']}")


def check_gpu(present: bool, torch: Probe, ops: Probe) -> Finding:
    """Whether a GPU that is here can be used by torch and by mmcv's ops."""
    subject = "GPU"
    if torch.error:
        return Finding(subject, "warning", "unknown: torch does not import")
    facts = torch.facts
    if not facts["available"]:
        if not present:
            return Finding(subject, "ok", "none, training runs on the CPU")
        if facts["cuda"] is None:
            what = "present, but torch is a CPU build"
            # Which satisfies the same pin.
            remedy = "pip uninstall -y torch torchvision; pip install torch==2.10.0 "
            return Finding(subject, "broken", what, remedy + "torchvision==0.25.0")
        what = f"present, but torch (CUDA {facts['cuda']}) cannot use it"
        return Finding(subject, "broken", what, "update the NVIDIA driver")
    label = f"{facts['gpus']} x {facts['name']} ({facts['arch']}, CUDA {facts['cuda']})"
    major = facts["arch"].removesuffix(facts["arch"][-1])
    if not any(arch.startswith((major, "compute_")) for arch in facts["archs"]):
        what = f"{label}; torch has kernels only for {' '.join(facts['archs'])}"
        return Finding(subject, "broken", what, "install a torch built for this GPU")
    compiled = ops.facts.get("cuda", "")
    if (
        ops.facts.get("compiled")
        and compiled.split(".")[0] != facts["cuda"].split(".")[0]
    ):
        what = f"{label}; mmcv's ops are compiled for CUDA {compiled or 'not at all'}"
        remedy = "set CUDA_HOME, then make setup OPS=compiled; or reinstall mmcv"
        return Finding(subject, "broken", what, remedy)
    return Finding(subject, "ok", label)


def gpu_present() -> bool:
    """Whether the system shows an NVIDIA GPU, used by torch or not."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


def check_disk(free_bytes: int, where: Path) -> Finding:
    """Whether there is room for checkpoints and data."""
    found = f"{free_bytes / 1e9:.0f} GB free at {where}"
    if free_bytes / 1e9 >= FREE_GB:
        return Finding("disk", "ok", found)
    return Finding("disk", "warning", found, "free some space before training")


def check_mmrev(probe: Probe) -> Finding:
    """Whether the toolboxes can find mmrev's backbones by name."""
    if probe.error:
        return Finding("mmrev", "broken", f"type='mmrev.RevCol': {probe.error}", MAKE)
    return Finding("mmrev", "ok", "type='mmrev.RevCol' is found")


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it should be mended."""
    probes = {
        name: code
        for name, code in PROBES.items()
        if importlib.util.find_spec(name.partition(".")[0])
    }
    nothing = Probe("it is not installed", {})
    found = dict.fromkeys(PROBES, nothing) | run_probes(probes)
    torch_version = version_of("torch")
    yield check_python(sys.version_info[:3])
    yield check_torch(torch_version, found["torch"])
    yield check_torchvision(
        version_of("torchvision"), torch_version, found["torchvision"]
    )
    yield check_opencv(opencv_distributions(), found["cv2"])
    for package in ENGINE:
        yield check_package(package, found[package.module])
    mmcv = next(package for package in ENGINE if package.module == "mmcv")
    yield check_ops(mmcv.installed(), torch_version, found["mmcv.ops"])
    for package in TOOLBOXES:
        yield check_package(package, found[package.module])
    yield check_mmrev(found["mmrev"])
    yield check_gpu(gpu_present(), found["torch"], found["mmcv.ops"])
    yield check_disk(shutil.disk_usage(Path.cwd()).free, Path.cwd())


def version_of(name: str) -> str | None:
    """Version of an installed distribution, None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def show(findings: Iterable[Finding]) -> None:
    """Print a table, a plain one where rich is missing."""
    findings = list(findings)
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        for finding in findings:
            print(f"{finding.status:8} {finding.subject:11} {finding.found}")
    else:
        styles = {"ok": "green", "warning": "yellow", "broken": "bold red"}
        table = Table("", "what", "found")
        for finding in findings:
            style = styles[finding.status]
            status = f"[{style}]{finding.status}[/]"
            table.add_row(status, finding.subject, finding.found.replace("[", r"\["))
        Console().print(table)
    for finding in findings:
        if finding.remedy and finding.status != "ok":
            print(f"to mend {finding.subject}: {finding.remedy}")


def main() -> int:
    """Examine, report, and return the exit status."""
    findings = list(examine())
    show(findings)
    broken = [finding.subject for finding in findings if finding.status == "broken"]
    if broken:
        print(f"{len(broken)} broken: {', '.join(broken)}")
        return 1
    print("everything needed works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
