"""Cells whose tools are fake_tool.py."""

import os
import sys
from pathlib import Path

from make_records import measured

from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.sweep.cells import Cell
from mmrev.sweep.job import Job, Step

TOOL = Path(__file__).with_name("fake_tool.py")


def make_cell(out: Path, model: str, seed=0, start=None, tested=True) -> Cell:
    folder = out / model / f"seed-{seed}"
    return Cell(
        run=model,
        path=f"{model}.py",
        cfg=None,
        seed=seed,
        options={},
        train_args=[],
        safe=False,
        tested=tested,
        start=start,
        weights=[],
        folder=folder,
        checkpoint=folder / "last.pth",
        config_sha256=config_sha256(_config(model, seed)),
    )


def fake_job(cell: Cell, gpus: int = 0, watched: bool = True) -> Job:
    """In the place of `mmrev.sweep.sweep.job_of`."""
    record = measured(
        config={"name": cell.model, "resolved": _config(cell.model, cell.seed)},
        seeds={"train": cell.seed},
        metrics={"coco/bbox_mAP": 0.4 + cell.seed / 100},
    ).model_dump_json(exclude={"id"})
    python = [sys.executable, "-I", "-S", str(TOOL)]
    rest = [str(cell.folder), str(cell.checkpoint), record]
    kinds = ["train", "test"] if cell.tested else ["train"]
    return Job(
        folder=cell.folder,
        steps=[Step(kind, [*python, kind, *rest]) for kind in kinds],
        weights=cell.checkpoint,
        config_sha256=cell.config_sha256,
        start=cell.start and cell.start.folder,
        sweep=os.getpid() if watched else None,
    )


def plan(cell: Cell, kind: str, words: str) -> None:
    """What the tool does at each start, for all seeds; see fake_tool.py."""
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    (cell.folder.parent / kind).write_text(words)


def starts(cell: Cell, kind: str) -> int:
    """How often a tool was started."""
    file = cell.folder / f"{kind}ings"
    return len(file.read_text()) if file.is_file() else 0


def _config(model: str, seed: int) -> dict:
    return {"model": model, "randomness": {"seed": seed}}
