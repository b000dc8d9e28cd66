"""A look at all files that a config's runs would read, before days are spent."""

import json
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from rich.progress import track

from mmrev.atomic import write_bytes
from mmrev.browse.data_page import data_page
from mmrev.browse.data_text import data_text
from mmrev.browse.findings import Example, Findings, hashable
from mmrev.browse.judge import judge
from mmrev.browse.page import render
from mmrev.browse.scan import Part, scan
from mmrev.class_order import order_classes
from mmrev.console import quiet, say
from mmrev.datasets.annotations import EntryError
from mmrev.datasets.checked import (
    collecting_faults,
    use_checked_data,
)
from mmrev.errors import UserError
from mmrev.runs.check import data_hooks
from mmrev.runs.config import check_data
from mmrev.runs.folders import require_writable
from mmrev.runs.model import model_config
from mmrev.runs.refusals import named_refusals
from mmrev.wrappers import plain_settings

__all__ = ["check_all_data"]

_SPLITS = ("train", "val", "test")


def check_all_data(args: Namespace) -> int:
    """Look at the data as ``tools/check_data.py`` was asked to.

    Args:
        args: ``config``; ``safe_config``; ``workers``, processes; ``out``, a folder or
            None; ``cfg_options``.

    Returns:
        The exit status: 1 if something would end or distort a run.

    Raises:
        UserError: names the argument or key at fault; then nothing is written.
    """
    if args.workers < 0:
        raise UserError(f"--workers: expected 0 or more, got {args.workers}.")
    quiet()
    use_checked_data()
    cfg = model_config(args.config, args.cfg_options, args.safe_config)
    data_hooks(cfg)  # refuses malformed policies
    name = Path(args.config).stem
    work_dir = cfg.get("work_dir") or f"work_dirs/{name}"
    out = Path(args.out or Path(work_dir, "data"))
    require_writable(out, "--out")
    start = time.perf_counter()
    findings = Findings()
    with named_refusals(cfg):
        parts = _build(cfg, findings)
    if not parts and not findings.all:
        raise UserError(f"config {args.config}: no dataloader; nothing to look at.")
    in_files = [part for part in parts if _lies_in_files(part.dataset)]
    datasets = [part.dataset for part in in_files]
    total = sum(map(len, datasets))
    for found in track(scan(datasets, args.workers), "images", total, transient=True):
        in_files[found.part].add(found)
    splits = judge(parts, cfg, findings)
    seconds = time.perf_counter() - start
    subtitle = f"{total} images of {', '.join(s.name for s in splits) or 'no split'}"
    text = data_text(name, splits, findings)
    report = {
        **{"config": str(args.config), "images": total, "seconds": round(seconds, 1)},
        "splits": [vars(split) for split in splits],
        "findings": [one.as_json() for one in findings],
    }
    places = {s.path: (s.part, s.index) for part in in_files for s in part.scans}
    page = data_page(datasets, places, splits, findings)
    write_bytes(out / "report.txt", text.encode())
    write_bytes(out / "report.json", json.dumps(report, indent=1, default=str).encode())
    write_bytes(out / "report.html", render(page, name, None, subtitle).encode())
    say(text.rstrip())
    say(f"report: {out}/report.html, .json, .txt ({total} images, {seconds:.1f} s)")
    return int(findings.faults > 0)


def _build(cfg: Config, findings: Findings) -> list[Part]:
    """The data sets of all splits; one that validation and test share once."""
    parts: dict[str, Part] = {}
    for split in _SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader is None:
            continue
        try:
            check_data(cfg, split)
        except UserError as error:
            findings.add("data", split, str(error), count=1)
            continue
        for _, settings in plain_settings(loader.dataset, f"{split}_dataloader"):
            ways = ("pipeline", "test_mode", "lazy_init")
            what = {key: v for key, v in settings.items() if key not in ways}
            key = f"{split == 'train'} {what!r}"
            if key in parts:
                parts[key].splits.append(split)
            elif dataset := _built(settings, split, findings):
                parts[key] = Part(dataset, [split])
    return list(parts.values())


def _built(
    settings: Mapping[str, Any], split: str, findings: Findings
) -> BaseDataset | None:
    dataset = None
    with collecting_faults() as faults:
        try:
            dataset = DATASETS.build(order_classes(settings))
            dataset.full_init()
        except UserError as error:
            findings.add("data", split, str(error), count=1)
    paths = {}
    if dataset is not None and any(isinstance(one, EntryError) for one in faults):
        infos = map(dataset.get_data_info, range(len(dataset)))
        paths = {info.get("img_id"): info.get("img_path", "") for info in infos}
    for fault in faults:
        examples = []
        if isinstance(fault, EntryError):
            for entry in filter(lambda one: isinstance(one, dict), fault.entries):
                path = paths.get(hashable(entry.get("image_id")), "")
                text = f"id {entry.get('id')} of {fault.where}, {fault.what}"
                examples.append(Example(path, text, entry=entry))
        count = len(fault.entries) if isinstance(fault, EntryError) else 1
        findings.add("annotations", split, str(fault), examples, count)
    return dataset


def _lies_in_files(dataset: BaseDataset) -> bool:
    return len(dataset) > 0 and dataset.get_data_info(0).get("img_path") is not None
