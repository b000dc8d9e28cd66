"""`make demo`: from nothing to a leaderboard entry, in steps that can be interrupted.

Each step is one run of a tool. It is over when its result exists; tools write theirs
whole or not at all, and training continues from its newest checkpoint. So the demo
may be killed anywhere, and repeating it does what is left.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from mmrev.engine.errors import UserError, nearest
from mmrev.engine.storage import write_bytes

SCENES = Path("data/scenes")
CONFIGS = Path("configs/demo")
# What decides the results of a backbone. Results of other settings are not continued.
SOURCES = (
    "configs/demo/{backbone}-demo_*.py",
    "configs/_base_/backbones/{backbone}-demo.py",
    "configs/_base_/*/*demo_*.py",
    "configs/_base_/datasets/scenes_*.py",
    "mmrev/datasets/*.py",
)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Step:
    """One run of a tool.

    Attributes:
        title: what the user reads, and the key of its time.
        command: arguments after the Python interpreter.
        result: glob below the work dir; a match means that the step is over.
    """

    title: str
    command: Sequence[str]
    result: str


def backbones() -> list[str]:
    """The backbones that have demo configs."""
    ending = "-demo_crops.py"
    names = [path.name.removesuffix(ending) for path in CONFIGS.glob(f"*{ending}")]
    return sorted(names)


def work_dir_of(backbone: str) -> Path:
    """Where a backbone's results lie; the configs name this folder, too."""
    return Path("work_dirs") / f"demo-{backbone}"


def demo_steps(backbone: str = "revcol") -> list[Step]:
    """List the steps of the demo: pretrain, then train and test two models."""
    work_dir = work_dir_of(backbone)

    def train(title: str, config: str, name: str, result: str) -> Step:
        folder = str(work_dir / name)
        command = ["tools/train.py", config, "--work-dir", folder, "--resume"]
        return Step(title, command, f"{name}/{result}")

    def test(title: str, config: str, name: str, checkpoint: str) -> Step:
        folder = work_dir / name
        files = [config, str(folder / checkpoint), "--work-dir", str(folder)]
        pictures = ["--show-dir", str(folder / "predictions")]
        command = ["tools/test.py", *files, *pictures]
        return Step(title, command, f"{name}/records/*.json")

    detector = (f"{CONFIGS}/{backbone}-demo_dino-3scale_scenes.py", "dino")
    segmentor = (f"{CONFIGS}/{backbone}-demo_mask2former_scenes.py", "mask2former")
    crops = f"{CONFIGS}/{backbone}-demo_crops.py"
    return [
        train(f"pretrain {backbone} on digit crops", crops, "crops", "iter_400.pth"),
        train("train DINO", *detector, "epoch_4.pth"),
        test("test DINO", *detector, "epoch_4.pth"),
        train("train Mask2Former", *segmentor, "iter_1000.pth"),
        test("test Mask2Former", *segmentor, "iter_1000.pth"),
    ]


def run_demo(backbone: str = "revcol") -> None:
    """Run the demo in the current folder, the root of the repository.

    Args:
        backbone: one of `backbones`.

    Raises:
        UserError: a step failed, there is no such backbone, or the folder is not the
            repository's.
    """
    if not Path("tools/train.py").is_file():
        raise UserError(
            f"demo: {Path.cwd()} is not mmrev's repository (it has no tools/train.py);"
            " run it there."
        )
    if backbone not in backbones():
        raise UserError(
            f"demo: there are no demo configs of '{backbone}'; "
            f"{nearest(backbone, backbones())}"
        )
    work_dir = work_dir_of(backbone)
    settings = settings_sha256(Path(), backbone)
    seconds = run_steps(demo_steps(backbone), work_dir, settings)
    # Every demo run so far, so that backbones can be compared.
    folders = sorted(map(str, work_dir.parent.glob("demo-*/")))
    table = ["tools/leaderboard.py", "list", *folders]
    subprocess.run([sys.executable, *table], check=True)
    print(
        "\n".join(
            (
                f"scenes       {SCENES}/",
                f"checkpoints  {work_dir}/*/*.pth",
                f"predictions  {work_dir}/*/predictions/",
                f"records      {work_dir}/*/records/",
                f"time         {sum(seconds.values()) / 60:.1f} min",
            )
        )
    )


def run_steps(steps: Sequence[Step], work_dir: Path, settings: str) -> dict[str, float]:
    """Run the steps whose results do not exist yet.

    Args:
        steps: in their order.
        work_dir: holds every result; emptied if it was made with other settings. Two
            processes never work in it at once, the second waits.
        settings: hash of all that decides the results.

    Returns:
        The seconds that each step took, summed over interruptions.

    Raises:
        UserError: a step failed or left no result.
    """
    work_dir.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work_dir.with_name(f".{work_dir.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"Another demo is at work in {work_dir}; waiting for it.", flush=True)
        lock.acquire()
    try:
        state = _open_work_dir(work_dir, settings)
        for number, step in enumerate(steps, 1):
            heading = f"[{number}/{len(steps)}] {step.title}"
            if any(work_dir.glob(step.result)):
                print(f"{heading}: done", flush=True)
                continue
            print(heading, flush=True)
            _run(step, work_dir, state)
            took = state["seconds"][step.title]
            print(f"{heading}: done in {took:.0f} s", flush=True)
        return {step.title: state["seconds"].get(step.title, 0.0) for step in steps}
    finally:
        lock.release()


def settings_sha256(root: Path, backbone: str) -> str:
    """Hash the files that decide the results of a backbone's demo."""
    digest = hashlib.sha256()
    globs = [glob.format(backbone=backbone) for glob in SOURCES]
    for path in sorted({path for glob in globs for path in root.glob(glob)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _open_work_dir(work_dir: Path, settings: str) -> dict:
    path = work_dir / "progress"
    state = json.loads(path.read_text()) if path.is_file() else None
    if state is None or state["settings"] != settings:
        if work_dir.exists():
            print(f"{work_dir} is of other settings: starting anew.", flush=True)
            shutil.rmtree(work_dir)
        state = {"settings": settings, "seconds": {}}
        _save(state, work_dir)
    return state


def _save(state: dict, work_dir: Path) -> None:
    write_bytes(work_dir / "progress", json.dumps(state, indent=2).encode())


def _run(step: Step, work_dir: Path, state: dict) -> None:
    start = time.monotonic()
    try:
        status = subprocess.run(
            [sys.executable, *step.command],
            preexec_fn=partial(_die_with_parent, os.getpid()),
        ).returncode
    finally:
        earlier = state["seconds"].get(step.title, 0.0)
        state["seconds"][step.title] = earlier + time.monotonic() - start
        _save(state, work_dir)
    if status:
        raise UserError(
            f"demo: '{step.title}' failed with status {status}; the command was python "
            f"{' '.join(step.command)}. Repeat `make demo` to continue from here."
        )
    if not any(work_dir.glob(step.result)):
        raise UserError(
            f"demo: '{step.title}' ended without {work_dir / step.result}; remove "
            f"{work_dir} and repeat `make demo`."
        )


def _die_with_parent(parent: int) -> None:
    # A killed demo must not leave a training behind that the next one runs into.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)
