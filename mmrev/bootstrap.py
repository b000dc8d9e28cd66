"""Create or repair ``.venv`` with the pinned stack: what ``make setup`` runs.

Run by path (``python3 -I mmrev/bootstrap.py``) with any Python from 3.8 on and
nothing installed: standard library only, and nothing of mmrev.

uv does the work, from ``requirements/``: it keeps what fits, fetches in parallel, and
takes from its cache what it has fetched before. Here is what it leaves to do: a Python,
a package index as pip knows it, packages that an interrupted run left half-installed,
and mmcv's compiled ops, which nothing needs (see `mmrev.ops`).
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
DISK_GB = 10
"""Free space a first set-up needs: torch with CUDA 7, the others 2, spare 1."""
JOB_GB = 2.5
"""Memory of one compiler process of mmcv's build, measured."""
RETRY = "then run `make setup` again; what is installed is kept."


class SetupError(Exception):
    """Something cannot be done.

    Args:
        why: what is wrong.
        do: what the user can do about it.
    """

    def __init__(self, why: str, do: str):
        super().__init__(why)
        self.why = why
        self.do = do


# --- the machine -------------------------------------------------------------------

PROBE = (
    "import json, struct, sys, sysconfig, importlib.util as u;"
    "print(json.dumps(dict("
    "version=sys.version_info[:3],"
    "bits=struct.calcsize('P') * 8,"
    "executable=getattr(sys, '_base_executable', sys.executable),"
    "include=sysconfig.get_paths()['include'],"
    "ensurepip=u.find_spec('ensurepip') is not None)))"
)


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
        else "install one (Debian/Ubuntu: apt-get install python3 python3-venv), then "
        "`make setup PYTHON=python3`."
    )
    if asked is None:
        found = "none was found"
    elif interpreter is None:
        found = f"{asked} is no working Python"
    else:
        version = ".".join(map(str, interpreter["version"]))
        found = f"{asked} is Python {version}, {interpreter['bits']} bit"
    raise SetupError(f"{found}; needed: 64-bit Python {wanted}.", do)


def check_disk(free_bytes: int, where: Path) -> None:
    """Refuse to begin what the disk cannot hold."""
    if free_bytes / 1e9 < DISK_GB:
        raise SetupError(
            f"{free_bytes / 1e9:.1f} GB free at {where}, {DISK_GB} GB are needed.",
            "free some space or put the clone on another disk, " + RETRY,
        )


def gpu_visible() -> bool:
    """Whether an NVIDIA GPU is here and not hidden by CUDA_VISIBLE_DEVICES."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    devices = list(Path("/dev").glob("nvidia[0-9]*")) + list(Path("/dev").glob("dxg"))
    return bool(devices)


# --- what is installed -------------------------------------------------------------


def pins(text: str) -> dict[str, str]:
    """Name -> version of the ``name==version`` lines of a file's text."""
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;#]+)", text, flags=re.MULTILINE))


def damage(info: Path) -> str | None:
    """What is wrong with an installed distribution, None if nothing is.

    Compares every file with its ``RECORD``, which installers write last: by size, which
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


def sweep(site: Path) -> dict[str, str]:
    """Remove what tells that broken distributions are installed; uv brings them anew.

    Returns:
        Name and version of each that was found damaged -> what is wrong with it.
    """
    found = {}
    for info in sorted(site.glob("*.dist-info")):
        problem = damage(info)
        if problem:
            found[info.name[: -len(".dist-info")]] = problem
            shutil.rmtree(info)
    return found


# --- the package index -------------------------------------------------------------

# What pip is told about indexes, under uv's names; pip's words are kept as they are.
FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def index_settings(pip_config: str) -> dict[str, str]:
    """The environment that makes uv ask the indexes that pip asks.

    Args:
        pip_config: what ``pip config list`` prints.
    """
    found = {}
    for key, value in re.findall(r"^[^.]*\.([\w-]+)='(.*)'$", pip_config, re.MULTILINE):
        if key in FROM_PIP:
            found[FROM_PIP[key]] = value
    for name in ("UV_FIND_LINKS", "UV_INSECURE_HOST"):
        if name in found:
            found[name] = ",".join(found[name].split())
    if "UV_INDEX" in found:  # pip looks at all of them, uv at the first that has it
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: found[name] for name in found if name not in os.environ}


# --- mmcv's compiled ops -----------------------------------------------------------


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


def find_nvcc() -> str | None:
    """CUDA's compiler, where torch's build looks for it."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home and (Path(home) / "bin" / "nvcc").exists():
            return str(Path(home) / "bin" / "nvcc")
    default = Path("/usr/local/cuda/bin/nvcc")
    return shutil.which("nvcc") or (str(default) if default.exists() else None)


def nvcc_release(nvcc: str | None) -> str | None:
    """Version of a CUDA compiler, such as ``'12.8'``."""
    if nvcc is None:
        return None
    run = subprocess.run([nvcc, "--version"], capture_output=True, text=True)
    match = re.search(r"release (\d+\.\d+)", run.stdout)
    return match[1] if match else None


def ops_target(torch_cuda: str | None, nvcc_version: str | None, gpu: bool) -> str:
    """What mmcv's ops are compiled for: ``'cpu'`` or ``'cuda'``.

    Args:
        torch_cuda: CUDA version of the installed torch, None for a CPU build.
        nvcc_version: version of CUDA's compiler, None if there is none.
        gpu: whether a GPU is visible.

    Raises:
        SetupError: if a GPU would be left without ops.
    """
    if torch_cuda is None:
        return "cpu"
    major, wanted = (nvcc_version or "none").split(".")[0], torch_cuda.split(".")[0]
    if major == wanted:
        return "cuda"
    if not gpu:
        return "cpu"
    raise SetupError(
        f"a GPU is present, torch is of CUDA {torch_cuda}, and nvcc, CUDA's compiler, "
        f"is of CUDA {nvcc_version or '(there is none)'}: ops compiled for a GPU need "
        "one of torch's major version.",
        f"point CUDA_HOME at a CUDA {torch_cuda} toolkit, or use docker/, " + RETRY,
    )


def torch_build(site: Path) -> tuple[str, str | None]:
    """(version, CUDA version or None) of the installed torch, without importing it."""
    text = (site / "torch" / "version.py").read_text(encoding="utf-8")
    version = re.search(r"__version__ = '([^']+)'", text)
    cuda = re.search(r"^cuda\b[^=]*= '([^']+)'", text, flags=re.MULTILINE)
    return version[1] if version else "unknown", cuda[1] if cuda else None


# --- the environment ---------------------------------------------------------------


class Environment:
    """``.venv`` of a clone.

    Args:
        root: the clone.
        interpreter: facts about the Python to make it with.
    """

    def __init__(self, root: Path, interpreter: dict):
        self.root = root
        self.interpreter = interpreter
        self.name = "python{}.{}".format(*interpreter["version"])
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.site = self.venv / "lib" / self.name / "site-packages"
        self.settings: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the environment, or mend it; afterwards it holds uv."""
        found = probe(str(self.python))
        if found is None or found["version"] != self.interpreter["version"]:
            if not self.interpreter["ensurepip"]:
                raise SetupError(
                    f"{self.interpreter['executable']} has no ensurepip, so it cannot "
                    "make environments.",
                    f"install it (Debian/Ubuntu: apt-get install {self.name}-venv), "
                    + RETRY,
                )
            check_disk(shutil.disk_usage(self.root).free, self.root)
            shutil.rmtree(self.venv, ignore_errors=True)
            command = [self.interpreter["executable"], "-I", "-m", "venv"]
            self.run([*command, str(self.venv)])
        damaged = sweep(self.site)
        for name, problem in damaged.items():
            print(f"repairing: {name} {problem}", flush=True)
        pip = [str(self.python), "-I", "-m", "pip"]
        if not (self.site / f"{UV.replace('==', '-')}.dist-info").exists():
            if not (self.site / "pip" / "__main__.py").exists():
                self.run([str(self.python), "-I", "-m", "ensurepip"])
            self.run([*pip, "install", "--quiet", "--disable-pip-version-check", UV])
        if damaged:
            # uv links files from its cache: what was edited here is edited there.
            names = [name.partition("-")[0] for name in damaged]
            self.run([str(self.venv / "bin" / "uv"), "cache", "clean", *names])
        run = subprocess.run([*pip, "config", "list"], capture_output=True, text=True)
        self.settings = index_settings(run.stdout)

    def install(self) -> None:
        """Bring every package to its pin; nothing is compiled."""
        folder = self.root / "requirements"
        rivals = {"opencv_python", "opencv_contrib_python"}
        for name in rivals:  # which share the folder cv2 with the headless build
            if list(self.site.glob(f"{name}-*.dist-info")):
                self.uv("uninstall", name, "opencv-python-headless")
        files = [
            part
            for name in ("torch", "runtime", "demo", "tests")
            for part in ("-r", str(folder / f"{name}.txt"))
        ]
        constraints = ("-c", str(folder / "constraints.txt"))
        build = ("--build-constraints", str(folder / "build.txt"))
        self.uv("install", *self.cpu_only(), *constraints, *files)
        # In an environment of its own, which has no torch, mmcv's build compiles
        # nothing; that of the others needs nothing else.
        self.uv("install", "--no-deps", *build, "-r", str(folder / "suite.txt"))
        if self.is_changed():
            self.uv("install", "--no-deps", *build, "--editable", str(self.root))

    def is_changed(self) -> bool:
        """Whether this repository is to be installed (again): uv would each time."""
        installed = [
            info.stat().st_mtime
            for info in self.site.glob("mmrev-*.dist-info/direct_url.json")
            if json.loads(info.read_text())["url"] == self.root.as_uri()
        ]
        names = ("setup.py", "pyproject.toml", "mmrev_ops.pth", "mmrev/__init__.py")
        files = [self.root / name for name in names]
        files += [*self.root.glob("installing/*"), *self.root.glob("requirements/*")]
        newest = max(path.stat().st_mtime for path in files if path.exists())
        return not installed or newest > max(installed)

    def cpu_only(self) -> tuple[str, ...]:
        """Options for a torch without CUDA's 5 GB, where no GPU would use them.

        Its index is another one: it is asked only if the user named no index, and left
        alone if it does not answer.
        """
        torch = f"torch=={self.pinned('torch')['torch']}"
        named = {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_TORCH_BACKEND"} & {
            *self.settings,
            *os.environ,
        }
        if gpu_visible() or named or list(self.site.glob("torch-*.dist-info")):
            return ()
        options = ("--torch-backend", "cpu")
        trial = ("install", "--dry-run", "--no-deps", "--quiet", *options, torch)
        quick = {"UV_HTTP_RETRIES": "0", "UV_HTTP_TIMEOUT": "10"}
        run = subprocess.run(
            self.uv_command(*trial),
            env={**os.environ, **self.settings, **quick},
            capture_output=True,
        )
        return () if run.returncode else options

    def provide_ops(self, compiled: bool) -> None:
        """Compile mmcv's ops if that is asked for; drop those of another torch."""
        version, torch_cuda = torch_build(self.site)
        mmcv = self.pinned("suite")["onedl-mmcv"]
        note = self.venv / "mmcv-ops"  # what the ops that are there were compiled for
        there = next(self.site.glob("mmcv/_ext*.so"), None)
        noted = note.read_text() if there and note.exists() else ""
        wanted = f"mmcv {mmcv}, torch {version}, "
        options = ["--no-deps", "--reinstall-package", "onedl-mmcv"]
        tools = str(self.root / "requirements" / "build.txt")
        if not compiled:
            if there and not noted and self.ops_problem() is None:
                noted = wanted + "by somebody else"
                note.write_text(noted)
            if there and not noted.startswith(wanted):
                print(
                    "mmcv's ops were compiled for another torch: they go.", flush=True
                )
                build = ("--build-constraints", tools)
                self.uv("install", *options, *build, f"onedl-mmcv=={mmcv}")
            return
        target = ops_target(torch_cuda, nvcc_release(find_nvcc()), gpu_visible())
        wanted += target
        if target == "cuda":
            wanted += " " + os.environ.get("TORCH_CUDA_ARCH_LIST", "native")
        if noted == wanted:
            return
        print("compiling mmcv's ops: some minutes", flush=True)
        self.uv("install", "-r", tools)
        # uv keeps a wheel by these settings, and so one for each torch.
        settings = f"onedl-mmcv:compiled-for={wanted}"
        options += ["--no-build-isolation", "--config-settings-package", settings]
        environment = build_environment(target)
        self.uv("install", *options, f"onedl-mmcv=={mmcv}", environment=environment)
        if problem := self.ops_problem():
            raise SetupError(
                f"mmcv was compiled but its ops do not load: {problem}",
                "run `.venv/bin/python -m mmrev.doctor`, " + RETRY,
            )
        note.write_text(wanted)

    def ops_problem(self) -> str | None:
        """Why the compiled ops do not load, None if they do."""
        code = "import torch, mmcv._ext as e; assert not e.__file__.endswith('.py')"
        command = [str(self.python), "-I", "-c", code]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode == 0:
            return None
        return (run.stderr.strip().splitlines() or [f"exit {run.returncode}"])[-1]

    def pinned(self, name: str) -> dict[str, str]:
        """The pins of a requirement file."""
        path = self.root / "requirements" / f"{name}.txt"
        return pins(path.read_text(encoding="utf-8"))

    def uv_command(self, *arguments: str) -> list[str]:
        """A command of ``uv pip`` for this environment."""
        program = str(self.venv / "bin" / "uv")
        return [program, "pip", *arguments, "--python", str(self.python)]

    def uv(self, *arguments: str, environment: dict[str, str] | None = None) -> None:
        """Run ``uv pip``, which shows its progress and says what is wrong itself."""
        self.run(self.uv_command(*arguments), environment)

    def run(self, command: list[str], environment: dict[str, str] | None = None):
        """Run a command that prints for itself.

        Raises:
            SetupError: it failed.
        """
        env = {**os.environ, **self.settings, **(environment or {})}
        status = subprocess.run(command, env=env, stdin=subprocess.DEVNULL).returncode
        name = Path(command[0]).name
        if status < 0 or status == 137:
            raise SetupError(
                f"{name} was ended from outside (signal {-status % 128}).",
                "if nobody did that, memory ran out: close other programs or set "
                "MAX_JOBS=1, " + RETRY,
            )
        if status:
            raise SetupError(
                f"{name} failed (exit status {status}); the lines above say why.",
                "mend that (a network, a full disk, an index that UV_DEFAULT_INDEX or "
                "pip's settings name), " + RETRY,
            )


def build_environment(target: str) -> dict[str, str]:
    """What mmcv's build is told by variables."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    jobs = build_jobs(os.cpu_count() or 1, memory_gb)
    # Python's own flags ask for debug information: a third of the build's time.
    flags = os.environ.get("CPPFLAGS", "")
    found = {
        "MAX_JOBS": os.environ.get("MAX_JOBS", str(jobs)),
        "CPPFLAGS": f"{flags} -g0".strip(),
    }
    if target == "cuda":
        nvcc = Path(find_nvcc() or "")
        return {**found, "FORCE_CUDA": "1", "CUDA_HOME": str(nvcc.parent.parent)}
    return {**found, "FORCE_CUDA": "0", "CUDA_VISIBLE_DEVICES": ""}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--python", help="interpreter to use (3.10 to 3.13)")
    parser.add_argument("--ops", choices=["compiled"], help="compile mmcv's ops")
    return parser.parse_args()


def lock(path: Path):
    """Wait until no other set-up of this clone is running."""
    held = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another set-up of this clone is still running; waiting for it")
        fcntl.flock(held, fcntl.LOCK_EX)
    return held


def main() -> int:
    """Set up, or say why it could not be done."""
    began = time.monotonic()
    args = parse_arguments()
    names = tuple(f"python{major}.{minor}" for major, minor in reversed(PYTHONS))
    try:
        interpreter = choose_python(
            args.python, ROOT / ".venv", (sys.executable, *names)
        )
        with lock(ROOT / ".venv.lock"):
            environment = Environment(ROOT, interpreter)
            if args.ops == "compiled":
                include = Path(interpreter["include"])
                check_compiler(find_compiler(), include, environment.name)
            environment.prepare()
            environment.install()
            environment.provide_ops(args.ops == "compiled")
    except SetupError as error:
        print(f"\nmake setup failed: {error.why}\ndo: {error.do}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; `make setup` goes on from here.", file=sys.stderr)
        return 130
    seconds = time.monotonic() - began
    print(f".venv is ready ({seconds:.0f} s). Check: python -m mmrev.doctor")
    return 0


if __name__ == "__main__":
    sys.exit(main())
