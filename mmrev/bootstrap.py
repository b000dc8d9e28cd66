"""Create or repair ``.venv`` with the pinned stack: what ``make setup`` runs.

Run by path (``python3 -I mmrev/bootstrap.py``) with any Python from 3.8 on and
nothing installed: standard library only, and nothing of mmrev.

The work is a list of steps. A finished step leaves a stamp, a hash of all that went
into it, so the next run skips it. A run first removes what an interrupted one left
half-installed and compares every installed file with its package's list; whatever is
missing, damaged or of another version is installed again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 10), (3, 11), (3, 12))
DISK_GB = 14
"""Free space a first set-up needs: torch with CUDA 7, wheels and build 5, spare 2."""
JOB_GB = 2.5
"""Memory of one compiler process of mmcv's build, measured."""
PIP = "pip==26.3"
RETRY = "then run `make setup` again; finished steps are kept."


class SetupError(Exception):
    """A step cannot be done.

    Args:
        why: what is wrong.
        do: what the user can do about it.
    """

    def __init__(self, why: str, do: str):
        super().__init__(why)
        self.why = why
        self.do = do


# --- what is asked for -------------------------------------------------------------


def pins(text: str) -> dict[str, str]:
    """Normalised name -> version of the ``name==version`` lines of a file's text."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, flags=re.MULTILINE)
    return {normalise(name): version for name, version in found}


def normalise(name: str) -> str:
    """A distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def essence(text: str) -> str:
    """A requirement file without its comments and blank lines."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def digest(*parts: str) -> str:
    """Hash of some texts, in order."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


# --- what the machine has ----------------------------------------------------------


def probe(command: str) -> dict | None:
    """Facts about a Python interpreter, None if the command starts none.

    A pyenv shim, for one, may be there and fail.
    """
    if shutil.which(command) is None:
        return None
    run = subprocess.run(
        [command, "-I", "-c", PROBE], capture_output=True, text=True, check=False
    )
    return json.loads(run.stdout) if run.returncode == 0 else None


def fits(interpreter: dict | None) -> bool:
    """Whether the stack has wheels for an interpreter."""
    if interpreter is None or interpreter["bits"] != 64:
        return False
    return tuple(interpreter["version"][:2]) in PYTHONS


def choose_python(asked: str | None, venv: Path, names: tuple[str, ...]) -> dict:
    """The interpreter to build the environment with.

    Args:
        asked: what the user named, None if nothing.
        venv: an environment that may exist; it keeps its Python unless another one
            is asked for.
        names: commands to try, in order.

    Raises:
        SetupError: if none is of a version in `PYTHONS`.
    """
    if asked is None:
        for name in (str(venv / "bin" / "python"), *names):
            interpreter = probe(name)
            if fits(interpreter):
                return interpreter
    elif fits(interpreter := probe(asked)):
        return interpreter
    wanted = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    usable = [name for name in names if fits(probe(name))]
    do = (
        f"run `make setup PYTHON={usable[0]}`, which is installed here."
        if usable
        else "install one (Debian/Ubuntu: apt-get install python3.11 python3.11-venv "
        "python3.11-dev), then `make setup PYTHON=python3.11`."
    )
    if asked is None:
        found = "none was found"
    elif interpreter is None:
        found = f"{asked} is no working Python"
    else:
        version = ".".join(map(str, interpreter["version"]))
        found = f"{asked} is Python {version}, {interpreter['bits']} bit"
    raise SetupError(f"{found}; needed: 64-bit Python {wanted}.", do)


def check_disk(free_bytes: int, where: Path, needed_gb: float) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = free_bytes / 1e9
    if free < needed_gb:
        raise SetupError(
            f"{free:.1f} GB free at {where}, about {needed_gb:.0f} GB are needed.",
            "free some space or put the clone on another disk, " + RETRY,
        )


def check_compiler(compiler: str | None, include: Path, python: str) -> None:
    """Refuse to begin mmcv's build without a C++ compiler and Python's headers."""
    if compiler is None:
        raise SetupError(
            "no C++ compiler: neither $CXX nor c++ or g++ is on PATH.",
            "install one (Debian/Ubuntu: apt-get install g++; Fedora: dnf install "
            "gcc-c++; macOS: xcode-select --install), " + RETRY,
        )
    if not (include / "Python.h").exists():
        raise SetupError(
            f"Python's headers are missing: no {include / 'Python.h'}.",
            f"install them (Debian/Ubuntu: apt-get install {python}-dev; Fedora: dnf "
            f"install {python}-devel), " + RETRY,
        )


def find_compiler() -> str | None:
    """The C++ compiler that torch's build will call."""
    for name in (os.environ.get("CXX"), "c++", "g++"):
        if name and shutil.which(name.split()[0]):
            return name
    return None


def build_jobs(cores: int, memory_gb: float) -> int:
    """How many compilers may run at once: all cores, unless memory runs out."""
    return max(1, min(cores, int(memory_gb / JOB_GB)))


def memory_gb() -> float:
    """Physical memory, in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def find_nvcc() -> str | None:
    """CUDA's compiler, where torch's build looks for it."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").exists():
            return str(Path(home) / "bin" / "nvcc")
    default = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(default) if default.exists() else None)


def gpu_visible() -> bool:
    """Whether an NVIDIA GPU is here and not hidden by CUDA_VISIBLE_DEVICES."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    devices = list(Path("/dev").glob("nvidia[0-9]*")) + list(Path("/dev").glob("dxg"))
    return bool(devices)


def ops_target(torch_cuda: str | None, nvcc_version: str | None, gpu: bool) -> str:
    """What mmcv's ops are compiled for: ``'cpu'`` or ``'cuda'``.

    Args:
        torch_cuda: CUDA version of the installed torch, None for a CPU build.
        nvcc_version: version of CUDA's compiler, None if there is none.
        gpu: whether a GPU is visible.

    Raises:
        SetupError: if a GPU would be left without the ops it needs.
    """
    if torch_cuda is None:
        return "cpu"
    if nvcc_version is None:
        if not gpu:
            return "cpu"
        raise SetupError(
            "a GPU is present but no CUDA compiler (nvcc); on the GPU mmcv's ops "
            "work only if compiled for it.",
            f"install the CUDA {torch_cuda} toolkit and set CUDA_HOME, or use "
            "docker/, or give up the GPU with `export CUDA_VISIBLE_DEVICES=`, " + RETRY,
        )
    if nvcc_version.split(".")[0] != torch_cuda.split(".")[0]:
        if not gpu:
            return "cpu"
        raise SetupError(
            f"nvcc is of CUDA {nvcc_version}, torch of CUDA {torch_cuda}: their "
            "major versions must be equal.",
            f"point CUDA_HOME at a CUDA {torch_cuda} toolkit, " + RETRY,
        )
    return "cuda"


def nvcc_release(nvcc: str | None) -> str | None:
    """Version of a CUDA compiler, such as ``'12.8'``."""
    if nvcc is None:
        return None
    run = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    match = re.search(r"release (\d+\.\d+)", run.stdout)
    return match[1] if match else None


# --- what is installed -------------------------------------------------------------


def torch_build(site: Path) -> tuple[str, str | None]:
    """(version, CUDA version or None) of the installed torch, without importing it."""
    text = (site / "torch" / "version.py").read_text(encoding="utf-8")
    version = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"^cuda\b[^=]*= '([^']+)'", text, flags=re.MULTILINE)
    return version[1] if version else "unknown", cuda[1] if cuda else None


def installed(site: Path) -> dict[str, str]:
    """Normalised name -> version of every distribution in a site-packages folder."""
    found = {}
    for path in site.glob("*.dist-info"):
        name, _, version = path.name[: -len(".dist-info")].partition("-")
        found[normalise(name)] = version
    return found


def damage(info: Path) -> str | None:
    """What is wrong with an installed distribution, None if nothing is.

    Compares every file with its ``RECORD``, which pip writes last: by size, which
    takes a second for the whole stack.
    """
    record = info / "RECORD"
    if not record.exists() or not (info / "METADATA").exists():
        return "was not installed to the end"
    with record.open(newline="", encoding="utf-8") as lines:
        for name, _, size in csv.reader(lines):
            if not size or name.endswith(".pyc"):  # Python rewrites its caches
                continue
            try:
                actual = os.stat(os.path.join(info.parent, name)).st_size
            except OSError:
                return f"lacks {name}"
            if actual != int(size):
                return f"has a changed {name}"
    return None


def sweep(site: Path) -> list[str]:
    """Remove the traces of broken installations, so that pip installs them anew.

    Returns:
        One line for each distribution that was found damaged.
    """
    for leftover in site.glob("~*"):  # pip's set-aside copies of an interrupted run
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    found = []
    for info in sorted(site.glob("*.dist-info")):
        problem = damage(info)
        if problem:
            found.append(f"{info.name[: -len('.dist-info')]} {problem}")
            shutil.rmtree(info)
    return found


# --- stamps ------------------------------------------------------------------------


class Stamps:
    """Keys of the finished steps and what was installed then, in one JSON file."""

    def __init__(self, path: Path):
        self.path = path
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            self.steps = dict(state["steps"])
            self.installed = dict(state["installed"])
        except (OSError, ValueError, KeyError, TypeError):
            self.steps = {}
            self.installed = {}

    def save(self) -> None:
        """Write all at once: a kill leaves the old file or the new one."""
        part = self.path.with_suffix(".part")
        state = {"steps": self.steps, "installed": self.installed}
        part.write_text(json.dumps(state, indent=1), encoding="utf-8")
        os.replace(part, self.path)

    def set(self, step: str, key: str) -> None:
        """Mark a step as finished."""
        self.steps[step] = key
        self.save()


# --- running pip -------------------------------------------------------------------

DIAGNOSES = (
    (
        r"No space left on device|Errno 28",
        "the disk is full.",
        "free some space, " + RETRY,
    ),
    (
        r"NewConnectionError|NameResolutionError|Temporary failure in name resolution"
        r"|Network is unreachable|ConnectTimeout|ReadTimeout|ProxyError"
        r"|Connection (?:refused|reset)|SSLError",
        "the package index cannot be reached.",
        "check the network (and PIP_INDEX_URL, HTTPS_PROXY if you use them), " + RETRY,
    ),
    (
        r"(?:fatal error: |: )Killed|Killed signal terminated program|signal 9",
        "a process was killed, most likely for lack of memory.",
        "close other programs or compile with fewer processes (MAX_JOBS=1 make "
        "setup), " + RETRY,
    ),
    (
        r"C\+\+20 or later compatible compiler is required",
        "the installed torch needs C++20, mmcv is compiled as C++17.",
        "keep to the torch of requirements/build.txt, " + RETRY,
    ),
    (
        r"Python\.h: No such file",
        "Python's headers are missing.",
        "install them (Debian/Ubuntu: apt-get install python3-dev), " + RETRY,
    ),
    (
        r"No module named '?pkg_resources",
        "setuptools is too new for mmcv's build.",
        "keep to the setuptools of requirements/build.txt, " + RETRY,
    ),
    (
        r"(?:CUDA_HOME environment variable is not set|detected CUDA version)",
        "the CUDA toolkit does not fit torch.",
        "point CUDA_HOME at a toolkit of torch's CUDA version, " + RETRY,
    ),
    (
        r"No matching distribution found for (\S+)",
        "the package index has no {0} for this Python and platform.",
        "use another Python (make setup PYTHON=python3.11) or check PIP_INDEX_URL, "
        + RETRY,
    ),
    (
        r"Permission denied: '?([^'\n]+)",
        "no permission to write {0}.",
        "run as the owner of the clone, " + RETRY,
    ),
    (
        r"error: command \S*(?:c\+\+|g\+\+|gcc|clang)\S* failed|ninja: build stopped",
        "a compiler failed.",
        "read the end of the log (GCC 9 or later is needed), " + RETRY,
    ),
)


def diagnose(output: str) -> SetupError:
    """Name the cause of a failed command from what it printed."""
    for pattern, why, do in DIAGNOSES:
        match = re.search(pattern, output)
        if match:
            return SetupError(why.format(*match.groups()), do)
    errors = [line for line in output.splitlines() if "error" in line.lower()]
    last = (errors or output.splitlines() or ["it printed nothing"])[-1].strip()
    return SetupError(last[:300], "read the log for the rest, " + RETRY)


class Display:
    """Progress: one rewritten line on a terminal, now and then a line elsewhere.

    Args:
        stream: where it goes.
        interval: seconds between lines where there is no terminal.
    """

    def __init__(self, stream=sys.stdout, interval: float = 15.0):
        self.stream = stream
        self.rewrites = stream.isatty()
        self.interval = 0.5 if self.rewrites else interval
        self.doing = ""

    def line(self, text: str) -> None:
        """A line that stays."""
        self.stream.write(("\r\x1b[K" if self.rewrites else "") + text + "\n")
        self.stream.flush()

    @contextlib.contextmanager
    def ticking(self):
        """Show what is being done, and for how long, even while nothing is said."""
        self.doing = "starting"
        began = time.monotonic()
        stop = threading.Event()

        def tick() -> None:
            while not stop.wait(self.interval):
                text = f"      {self.doing} ({time.monotonic() - began:.0f} s)"
                if self.rewrites:
                    width = shutil.get_terminal_size().columns - 1
                    self.stream.write("\r\x1b[K" + text[:width])
                    self.stream.flush()
                else:
                    self.line(text)

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class ProgressReader:
    """Turns pip's output lines into words for a person."""

    def __init__(self):
        self.subject = ""

    def read(self, line: str) -> str | None:
        """What to show for a line, None if it says nothing new."""
        collecting = re.match(r"Collecting (\S+)", line)
        downloading = re.match(r"\s*Downloading (\S+)", line)
        if collecting or downloading:
            name = (downloading or collecting)[1].rsplit("/", 1)[-1]
            self.subject = re.split(r"-\d|[=<>;\[(]", name)[0]
            return f"fetching {self.subject}"
        raw = re.match(r"Progress (\d+) of (\d+)", line)
        if raw:
            done, total = int(raw[1]), int(raw[2])
            return f"fetching {self.subject}: {done / 1e6:.0f} of {total / 1e6:.0f} MB"
        ninja = re.match(r"\s*\[(\d+)/(\d+)\]", line)
        if ninja:
            return f"compiling: file {ninja[1]} of {ninja[2]}"
        if line.startswith("Installing collected packages"):
            return f"unpacking {line.count(',') + 1} packages"
        return None


class Setup:
    """The steps from an empty folder to a working ``.venv``.

    Args:
        root: the clone.
        interpreter: facts about the Python to make the environment with.
        display: where progress goes.
        log: open, locked file for the output of all commands.
    """

    def __init__(self, root: Path, interpreter: dict, display: Display, log):
        self.root = root
        self.interpreter = interpreter
        self.display = display
        self.log = log
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.python_name = "python{}.{}".format(*interpreter["version"])
        self.site = self.venv / "lib" / self.python_name / "site-packages"
        folder = root / "requirements"
        self.requirements = {
            path.stem: essence(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.txt"))
        }
        self.stamps = Stamps(self.venv / "mmrev-setup.json")

    def keys(self) -> dict[str, str]:
        """Step -> hash of what goes into it, in the order of the steps."""
        files = self.requirements
        base = json.dumps([self.interpreter["version"], str(self.root)])
        constraints = files["constraints"]
        packaging = [
            (self.root / name).read_text(encoding="utf-8")
            for name in ("setup.py", "mmrev/__init__.py")
        ]
        libraries = [files[name] for name in ("runtime", "demo", "tests")]
        torch = pins(files["build"])["torch"]
        return {
            "python": digest(base, PIP),
            "torch": digest(base, files["build"], constraints),
            "libraries": digest(base, *libraries, constraints),
            "mmcv": digest(base, torch, self.mmcv_pin, self.cuda_request()),
            "toolboxes": digest(base, files["suite"]),
            "mmrev": digest(base, *packaging),
        }

    @property
    def mmcv_pin(self) -> str:
        """The line of requirements/suite.txt that has compiled ops."""
        return "onedl-mmcv==" + pins(self.requirements["suite"])["onedl-mmcv"]

    @staticmethod
    def cuda_request() -> str:
        """What of the surroundings decides how the ops are compiled."""
        nvcc = find_nvcc()
        if nvcc is None:
            return f"gpu {gpu_visible()}"
        return f"{nvcc} {os.environ.get('TORCH_CUDA_ARCH_LIST', '')}"

    def run(self) -> list[str]:
        """Do what is not done yet.

        Returns:
            Names of the steps that were carried out.
        """
        keys = self.keys()
        self.repair()
        todo = [step for step in keys if self.stamps.steps.get(step) != keys[step]]
        if not todo:
            return []
        if "python" in todo or "torch" in todo:
            free = shutil.disk_usage(self.root).free
            check_disk(free, self.root, DISK_GB)
        if "mmcv" in todo:  # before the long downloads, not after them
            include = Path(self.interpreter["include"])
            check_compiler(find_compiler(), include, self.python_name)
        for number, step in enumerate(keys, start=1):
            if step not in todo:
                continue
            title = TITLES[step]
            self.display.line(f"[{number}/{len(keys)}] {step}: {title}")
            began = time.monotonic()
            try:
                getattr(self, "step_" + step)()
            except SetupError as error:
                error.step = f"step {number} of {len(keys)} ({step})"
                raise
            self.stamps.set(step, keys[step])
            self.display.line(f"      done in {time.monotonic() - began:.0f} s")
        self.stamps.installed = installed(self.site)
        self.stamps.save()
        return todo

    def repair(self) -> None:
        """Take back the stamps of what is no longer as it was installed."""
        if not self.answers():
            self.stamps.steps.clear()
            return
        now = installed(self.site)
        problems = sweep(self.site)
        for name, version in self.stamps.installed.items():
            if name not in now:
                problems.append(f"{name} {version} is gone")
            elif now[name] != version and name in self.pinned:
                problems.append(f"{name} is {now[name]} instead of {version}")
        for problem in sorted(set(problems)):
            self.display.line(f"repairing: {problem}")
        if not problems:
            return
        # mmcv stays as it is unless it is the one: it may take ten minutes.
        kept = () if any("mmcv" in problem for problem in problems) else ("mmcv",)
        steps = self.stamps.steps
        self.stamps.steps = {name: steps[name] for name in kept if name in steps}
        self.stamps.save()

    @property
    def pinned(self) -> dict[str, str]:
        """Every pin but the constraints."""
        files = self.requirements
        names = [name for name in files if name != "constraints"]
        return pins("\n".join(files[name] for name in names))

    def answers(self) -> bool:
        """Whether the environment's interpreter starts and has pip."""
        found = probe(str(self.python))
        if found is None or found["version"] != self.interpreter["version"]:
            return False
        return (self.site / "pip" / "__main__.py").exists()

    # --- steps ---------------------------------------------------------------------

    def step_python(self) -> None:
        """An environment with a known pip; one that works is kept."""
        if not self.answers() or not self.pip_works():
            python = self.interpreter["executable"]
            if not self.interpreter["ensurepip"]:
                raise SetupError(
                    f"{python} has no ensurepip, so it cannot make environments.",
                    f"install it (Debian/Ubuntu: apt-get install "
                    f"{self.python_name}-venv), " + RETRY,
                )
            shutil.rmtree(self.venv, ignore_errors=True)
            self.command([python, "-I", "-m", "venv", str(self.venv)])
        self.pip("install", PIP)

    def step_torch(self) -> None:
        """What the ops are compiled with and against."""
        self.pip("install", *self.constrained("build"))

    def step_libraries(self) -> None:
        """Everything with ready-made wheels."""
        # The two builds of opencv share the folder cv2: only one may be there.
        rivals = {"opencv-python", "opencv-contrib-python"} & set(installed(self.site))
        if rivals:
            self.pip("uninstall", "-y", *rivals, "opencv-python-headless")
        self.pip("install", *self.constrained("runtime", "demo", "tests"))

    def step_toolboxes(self) -> None:
        """The OpenMMLab packages; mmcv is there already."""
        path = str(self.root / "requirements" / "suite.txt")
        self.pip("install", "--no-deps", "--no-build-isolation", "-r", path)

    def step_mmrev(self) -> None:
        """This repository, editable."""
        options = ("--no-deps", "--no-build-isolation", "--editable")
        self.pip("install", *options, str(self.root))

    def step_mmcv(self) -> None:
        """Mmcv, compiled against the installed torch or from pip's cache."""
        version, torch_cuda = torch_build(self.site)
        target = ops_target(torch_cuda, nvcc_release(find_nvcc()), gpu_visible())
        built_for = f"torch {version}, {target}"
        if target == "cuda":
            built_for += " " + os.environ.get("TORCH_CUDA_ARCH_LIST", "native")
        cache = WheelCache(self.pip_cache(), "onedl_mmcv", self.interpreter["tag"])
        cache.drop_stale(built_for)
        had = cache.wheels()
        if "onedl-mmcv" in installed(self.site):  # of another torch, or damaged
            self.pip("uninstall", "-y", "onedl-mmcv")
        self.install_mmcv(target)
        problem = self.ops_problem()
        if problem and had:
            self.display.line(f"      the cached wheel does not work: {problem}")
            cache.drop_all()
            self.pip("uninstall", "-y", "onedl-mmcv")
            self.install_mmcv(target)
            problem = self.ops_problem()
        if problem:
            raise SetupError(
                f"mmcv was compiled but its ops do not load: {problem}",
                "run `.venv/bin/python -m mmrev.doctor`, " + RETRY,
            )
        cache.remember(built_for)

    def install_mmcv(self, target: str) -> None:
        """Install mmcv; pip compiles it unless its cache holds the wheel."""
        jobs = build_jobs(os.cpu_count() or 1, memory_gb())
        environment = {
            "MMCV_WITH_OPS": "1",
            "MAX_JOBS": os.environ.get("MAX_JOBS", str(jobs)),
        }
        # Python's own flags ask for debug information: a third of the build's time.
        flags = os.environ.get("CPPFLAGS", "")
        environment["CPPFLAGS"] = f"{flags} -g0".strip()
        if target == "cuda":
            nvcc = Path(find_nvcc() or "")
            environment.update(FORCE_CUDA="1", CUDA_HOME=str(nvcc.parent.parent))
        else:
            environment.update(FORCE_CUDA="0", CUDA_VISIBLE_DEVICES="")
        options = ("--no-deps", "--no-build-isolation", "--verbose")
        self.pip("install", *options, self.mmcv_pin, environment=environment)

    def ops_problem(self) -> str | None:
        """Why the compiled ops do not load, None if they do."""
        extension = next(self.site.glob("mmcv/_ext*.so"), None)
        if extension is None:
            return "the wheel holds no mmcv/_ext"
        # The file alone: mmcv's own import needs packages of later steps.
        code = (
            "import importlib.util as u, torch;"
            f"s = u.spec_from_file_location('_ext', {str(extension)!r});"
            "m = u.module_from_spec(s); s.loader.exec_module(m); m.nms"
        )
        command = [str(self.python), "-I", "-c", code]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode == 0:
            return None
        return (run.stderr.strip().splitlines() or [f"exit {run.returncode}"])[-1]

    # --- commands ------------------------------------------------------------------

    def pip_works(self) -> bool:
        """Whether the environment's pip is whole enough to install another."""
        command = [str(self.python), "-I", "-m", "pip", "--version"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def constrained(self, *files: str) -> list[str]:
        """Arguments of pip for some requirement files."""
        folder = self.root / "requirements"
        arguments = ["-c", str(folder / "constraints.txt")]
        for name in files:
            arguments += ["-r", str(folder / f"{name}.txt")]
        return arguments

    def pip_cache(self) -> Path:
        """Folder of pip's cache."""
        command = [str(self.python), "-I", "-m", "pip", "cache", "dir"]
        run = subprocess.run(command, capture_output=True, text=True)
        return Path(run.stdout.strip()) if run.returncode == 0 else self.venv / "cache"

    def pip(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Run the environment's pip."""
        command = [str(self.python), "-I", "-m", "pip", *arguments]
        if arguments[0] == "install" and PIP not in arguments:
            command += ["--progress-bar", "raw"]
        command += ["--no-input", "--disable-pip-version-check"]
        self.command(command, environment)

    def command(
        self, command: list[str], environment: dict[str, str] | None = None
    ) -> None:
        """Run a command, show its progress, keep its output in the log.

        Raises:
            SetupError: with the cause, if it fails.
        """
        reader = ProgressReader()
        tail: deque[str] = deque(maxlen=400)
        self.log.write("$ " + " ".join(command) + "\n")
        self.log.flush()
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            env={**os.environ, **(environment or {})},
            # The log is also the lock: a pip that outlives its parent holds it.
            pass_fds=(self.log.fileno(),),
        )
        try:
            with self.display.ticking():
                for line in process.stdout:
                    self.display.doing = reader.read(line) or self.display.doing
                    if not line.startswith("Progress "):
                        self.log.write(line)
                        tail.append(line)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            self.log.flush()
        status = process.wait()
        if status < 0:
            raise SetupError(
                f"{Path(command[0]).name} was ended from outside by signal {-status}.",
                "if nobody did that, memory ran out: close other programs or set "
                "MAX_JOBS=1, " + RETRY,
            )
        if status:
            raise diagnose("".join(tail))


class WheelCache:
    """The wheels of one package in pip's cache, and what each was built for.

    pip takes a cached wheel by name and Python only, so one built against another
    torch would be installed without a word. What this set-up built is therefore noted
    beside the wheels, by hash; a wheel nobody noted is tried, not trusted.

    Args:
        folder: pip's cache folder.
        package: name as in the wheel's file name.
        tag: Python tag, such as ``cp311``.
    """

    def __init__(self, folder: Path, package: str, tag: str):
        self.folder = folder / "wheels"
        self.pattern = f"**/{package}-*-{tag}-*.whl"
        self.notes = folder / "mmrev-wheels.json"

    def wheels(self) -> list[Path]:
        """The cached wheels for this Python."""
        return sorted(self.folder.glob(self.pattern))

    def read_notes(self) -> dict[str, str]:
        """Hash of a wheel -> what it was built for."""
        try:
            return dict(json.loads(self.notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def drop_stale(self, built_for: str) -> None:
        """Remove the wheels known to be built for something else, or cut short."""
        notes = self.read_notes()
        for wheel in self.wheels():
            noted = notes.get(file_hash(wheel), built_for)
            if noted != built_for or not zipfile.is_zipfile(wheel):
                wheel.unlink()

    def drop_all(self) -> None:
        """Remove every wheel of the package for this Python."""
        for wheel in self.wheels():
            wheel.unlink()

    def remember(self, built_for: str) -> None:
        """Note what the present wheels were built for."""
        if not self.wheels():
            return
        notes = self.read_notes()
        notes.update({file_hash(wheel): built_for for wheel in self.wheels()})
        part = self.notes.with_suffix(".part")
        part.write_text(json.dumps(notes, indent=1), encoding="utf-8")
        os.replace(part, self.notes)


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    value = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            value.update(block)
    return value.hexdigest()


TITLES = {
    "python": "the environment and its pip",
    "torch": "torch and the build tools (7 GB with CUDA's libraries)",
    "libraries": "libraries, demo data and test tools",
    "mmcv": "mmcv with compiled ops (some minutes, seconds if pip has them cached)",
    "toolboxes": "mmengine, mmdet, mmseg, mmpretrain",
    "mmrev": "this repository",
}

PROBE = (
    "import json, struct, sys, sysconfig, importlib.util as u;"
    "print(json.dumps(dict("
    "version=sys.version_info[:3],"
    "bits=struct.calcsize('P') * 8,"
    "executable=getattr(sys, '_base_executable', sys.executable),"
    "tag='cp%d%d' % sys.version_info[:2],"
    "include=sysconfig.get_paths()['include'],"
    "ensurepip=u.find_spec('ensurepip') is not None)))"
)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", help="interpreter to use (3.10, 3.11 or 3.12)")
    return parser.parse_args()


def lock(path: Path, display: Display):
    """Open the log and wait until no other set-up of this clone is running."""
    log = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        display.line("another set-up of this clone is still running; waiting for it")
        fcntl.flock(log, fcntl.LOCK_EX)
    log.truncate(0)
    return log


def main() -> int:
    """Set up, and say what was done or why it could not be."""
    display = Display()
    began = time.monotonic()
    path = ROOT / ".venv.log"
    names = (sys.executable, "python3.12", "python3.11", "python3.10")
    try:
        interpreter = choose_python(parse_arguments().python, ROOT / ".venv", names)
        done = Setup(ROOT, interpreter, display, lock(path, display)).run()
    except SetupError as error:
        step = getattr(error, "step", "checks before the first step")
        display.line(f"\nmake setup failed: {step}\nwhy: {error.why}")
        display.line(f"do:  {error.do}\nlog: {path}")
        return 1
    except KeyboardInterrupt:
        display.line("\nstopped; `make setup` goes on from here.")
        return 130
    seconds = time.monotonic() - began
    state = "is ready" if done else "was ready"
    display.line(f".venv {state} ({seconds:.0f} s). Check: python -m mmrev.doctor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
