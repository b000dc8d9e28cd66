"""`make demo`: from nothing to a leaderboard entry, in steps that can be interrupted.

Each step is one run of a tool, over when the tool ended well and its result exists;
training continues from its newest checkpoint. So the demo may be killed anywhere, and
repeating it does what is left.
"""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from rich.table import Table

from mmrev.atomic import write_bytes
from mmrev.console import show
from mmrev.errors import UserError, nearest
from mmrev.hashes import add_files
from mmrev.leaderboard.record import Record
from mmrev.leaderboard.store import load_records
from mmrev.processes import ends_with_parent

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


# The anchors of the stitched demo, small to large. It starts from their classifiers,
# and is compared with them alone: at equal steps, and at half the steps each, which
# costs together what the stitched model does.
ANCHORS = ("nfnet-small", "nfnet")
NEEDS = {"stitched": (*ANCHORS, *(f"{anchor}-half" for anchor in ANCHORS))}


@dataclass(frozen=True)
class Step:
    """One run of a tool.

    Attributes:
        title: what the user reads, and the key of its time.
        command: arguments after the Python interpreter.
        result: glob below the work dir; matched by what the step leaves.
    """

    title: str
    command: Sequence[str]
    result: str


@dataclass(frozen=True)
class Run:
    """One model that is trained, and tested unless it only pretrains.

    Attributes:
        model: what the user reads.
        config: what follows the backbone in the config's name.
        name: folder below the work dir; the configs name it, too.
        checkpoint: the last one.
        tested: whether a record is made.
    """

    model: str
    config: str
    name: str
    checkpoint: str
    tested: bool = True


RUNS = (
    Run("a classifier of digit crops", "crops", "crops", "iter_400.pth", tested=False),
    Run("a masked autoencoder", "mim_scenes", "mim", "iter_400.pth", tested=False),
    Run("DINO", "dino-3scale_scenes", "dino", "epoch_4.pth"),
    Run("Mask2Former", "mask2former_scenes", "mask2former", "iter_1000.pth"),
    Run("DINO", "dino-3scale-2e_scenes", "dino", "epoch_2.pth"),
    Run("Mask2Former", "mask2former-500_scenes", "mask2former", "iter_500.pth"),
)


def config_of(backbone: str, run: Run) -> Path:
    """The config of a run; a backbone has those whose file there is."""
    return CONFIGS / f"{backbone}-demo_{run.config}.py"


def backbones() -> list[str]:
    """The backbones that have demo configs."""
    ending = "-demo_dino-3scale_scenes.py"
    names = [path.name.removesuffix(ending) for path in CONFIGS.glob(f"*{ending}")]
    return sorted(names)


def work_dir_of(backbone: str) -> Path:
    """Where a backbone's results lie; the configs name this folder, too."""
    return Path("work_dirs") / f"demo-{backbone}"


def demo_steps(backbone: str = "revcol") -> list[Step]:
    """List the steps of a backbone's demo: train and test its models, one by one."""
    steps = []
    for run in RUNS:
        config = config_of(backbone, run)
        if not config.is_file():
            continue
        folder = work_dir_of(backbone) / run.name
        places = ["--work-dir", str(folder)]
        command = ["tools/train.py", str(config), *places, "--resume"]
        result = f"{run.name}/{run.checkpoint}"
        steps.append(Step(f"train {run.model}", command, result))
        if run.tested:
            command = ["tools/test.py", str(config), str(folder / run.checkpoint)]
            command += [*places, "--show-dir", str(folder / "predictions")]
            result = f"{run.name}/records/*.json"
            steps.append(Step(f"test {run.model}", command, result))
    return steps


def run_demo(backbone: str = "revcol") -> None:
    """Run the demo in the current folder, the root of the repository.

    Args:
        backbone: one of `backbones`; those that it needs run before it.

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
    seconds = 0.0
    for name in _with_needs(backbone):
        print(f"{name}:", flush=True)
        settings = settings_sha256(Path(), name)
        seconds += sum(
            run_steps(demo_steps(name), work_dir_of(name), settings).values()
        )
    # Every demo run so far, so that backbones can be compared.
    work_dir = work_dir_of(backbone)
    folders = sorted(map(str, work_dir.parent.glob("demo-*/")))
    table = ["tools/leaderboard.py", "list", *folders]
    subprocess.run([sys.executable, *table], check=True)
    if backbone == "stitched":
        show(stitched_table(load_records(folders)[0].values()))
    print(
        "\n".join(
            (
                f"scenes       {SCENES}/",
                f"checkpoints  {work_dir}/*/*.pth",
                f"predictions  {work_dir}/*/predictions/",
                f"records      {work_dir}/*/records/",
                f"time         {seconds / 60:.1f} min",
            )
        )
    )


def stitched_table(records: Iterable[Record]) -> Table:
    """Every stitch beside its anchors trained alone.

    Args:
        records: of the demo's runs, oldest first; a newer one replaces an older.
    """
    found = {(record.config.name, record.model.stitch): record for record in records}
    anchors = dict(enumerate(ANCHORS))
    table = Table(caption="alone: the anchor by itself, with as many steps, or half")
    for name in ("stitch", "GMACs with DINO"):
        table.add_column(name, justify="right")
    heads = (
        ("AP50", "coco/bbox_mAP_50", "dino-3scale", "dino-3scale-2e"),
        ("mIoU", "mIoU", "mask2former", "mask2former-500"),
    )
    for name, *_ in heads:
        for kind in ("", ", alone", ", alone, half"):
            table.add_column(name + kind, justify="right")
    for stitch in sorted({stitch for _, stitch in found if stitch is not None}):
        anchor, cells = anchors.get(stitch), []
        for _, metric, head, half in heads:
            for key in (
                (f"stitched-demo_{head}_scenes", stitch),
                (f"{anchor}-demo_{head}_scenes", None),
                (f"{anchor}-half-demo_{half}_scenes", None),
            ):
                record = found.get(key)
                cells.append(f"{record.metrics[metric]:.3g}" if record else "")
        detector = found.get(("stitched-demo_dino-3scale_scenes", stitch))
        flops = f"{detector.model.flops / 1e9:.3f}" if detector else ""
        table.add_row(str(stitch), flops, *cells)
    return table


def _with_needs(backbone: str) -> tuple[str, ...]:
    return *NEEDS.get(backbone, ()), backbone


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
            if step.title in state["done"] and any(work_dir.glob(step.result)):
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
    names = _with_needs(backbone)
    globs = [glob.format(backbone=name) for glob in SOURCES for name in names]
    add_files(digest, root, sorted({p for glob in globs for p in root.glob(glob)}))
    return digest.hexdigest()


def _open_work_dir(work_dir: Path, settings: str) -> dict:
    path = work_dir / "progress"
    state = json.loads(path.read_text()) if path.is_file() else None
    if state is None or state["settings"] != settings:
        if work_dir.exists():
            print(f"{work_dir} is of other settings: starting anew.", flush=True)
            shutil.rmtree(work_dir)
        state = {"settings": settings, "seconds": {}, "done": []}
        _save(state, work_dir)
    return state


def _save(state: dict, work_dir: Path) -> None:
    write_bytes(work_dir / "progress", json.dumps(state, indent=2).encode())


def _run(step: Step, work_dir: Path, state: dict) -> None:
    start = time.monotonic()
    try:
        status = subprocess.run(
            [sys.executable, *step.command],
            # A killed demo must not leave a training that the next one runs into.
            preexec_fn=ends_with_parent(),
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
    state["done"].append(step.title)
    _save(state, work_dir)
