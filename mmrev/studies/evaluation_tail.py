"""The end of ``tools/test.py`` beside pycocotools: from predictions to the record.

A model that returns stored predictions is tested as any other, by config and
checkpoint, on images that are read. What pycocotools needs for the same predictions is
measured afterwards, in the same process.
"""

import json
import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.table import Table
from torch import Tensor, nn

from mmrev.checkpoints import save_state_dict
from mmrev.console import hushed, quiet, show
from mmrev.leaderboard.store import load_records
from mmrev.registry import HOOKS, MODELS
from mmrev.runs.run import test
from mmrev.studies.evaluation_speed import HEIGHT, WIDTH, detection_case

_CONFIG = """
custom_imports = dict(imports=["mmrev.studies.evaluation_tail"])
default_scope = "mmdet"
data = dict(images={images}, detections={detections}, classes={classes})
model = dict(type="mmrev.StoredPredictions", **data)
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type="CocoDataset",
        data_root="{root}/",
        ann_file="truth.json",
        data_prefix=dict(img="images/"),
        metainfo=dict(classes=[str(one) for one in range({classes})]),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape"),
            ),
        ],
    ),
)
test_evaluator = dict(type="mmrev.CocoMetric", ann_file="{root}/truth.json")
test_cfg = dict()
absent_classes = "said"
custom_hooks = [dict(type="mmrev.StopwatchHook", out="{root}/times.json")]
"""


@MODELS.register_module()
class StoredPredictions(BaseModel):
    """Returns the predictions of `detection_case`.

    Args:
        images: of the case, as the others.
        detections: an image.
        classes: how many.

    Attributes:
        returned: when it did so last, seconds.
    """

    def __init__(self, images: int, detections: int, classes: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        _, samples = detection_case(images, detections, classes)
        self.stored = {one["img_id"]: one["pred_instances"] for one in samples}
        self.returned = 0.0

    def forward(
        self, inputs: list[Tensor], data_samples: list, mode: str = "predict"
    ) -> list:
        """Add to each sample what is stored of its image."""
        for sample in data_samples:
            sample.pred_instances = InstanceData(**self.stored[sample.img_id])
        self.returned = time.perf_counter()
        return data_samples


@HOOKS.register_module()
class StopwatchHook(Hook):
    """Takes the times of a test of `StoredPredictions`.

    Args:
        out: file to write them to: ``process``, seconds that metrics took while the
            test ran; ``last``, when the last prediction was made; ``evaluated``, when
            the figures were there.
    """

    priority = "VERY_HIGH"

    def __init__(self, out: str) -> None:
        self.out = Path(out)
        self.process = 0.0

    def after_test_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Add what came after the prediction."""
        self.process += time.perf_counter() - runner.model.returned
        self.last = time.perf_counter()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Write."""
        times = {"process": self.process, "last": self.last}
        self.out.write_text(json.dumps(times | {"evaluated": time.perf_counter()}))


def tail_times(images: int, detections: int, classes: int) -> dict[str, float]:
    """Seconds of the parts of a test's end, and of pycocotools'.

    Args:
        images: of random annotations, see `detection_case`.
        detections: an image.
        classes: how many.

    Returns:
        ``process``, ``evaluation`` and ``record`` of ours; ``loadRes`` and
        ``COCOeval``.

    Raises:
        RuntimeError: the figures are not equal.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, samples = detection_case(images, detections, classes)
        _make_files(folder, truth, (images, detections, classes))
        with hushed():
            ours, figures = _test(folder)
            theirs, expected = _original(folder / "truth.json", samples)
    found = [figures[f"coco/bbox_{name}"] for name in _STATISTICS]
    if found != expected:
        raise RuntimeError(f"expected the figures {expected}, got {found}.")
    return ours | theirs


# As COCOeval orders them.
_STATISTICS = (
    *("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"),
    *("AR@1", "AR@10", "AR@100", "AR_s@100", "AR_m@100", "AR_l@100"),
)


def print_tail(images: int, detections: int, classes: int) -> None:
    """Measure and print."""
    quiet()
    times = tail_times(images, detections, classes)
    theirs = times["loadRes"] + times["COCOeval"]
    tail = times["evaluation"] + times["record"]
    whole = tail + times["process"]
    table = Table("the end of a test", "seconds", "pycocotools takes")
    for name, seconds in times.items():
        table.add_row(name, f"{seconds:.2f}", "")
    table.add_section()
    table.add_row("pycocotools, all", f"{theirs:.2f}", "")
    table.add_row("after the last image", f"{tail:.2f}", f"{theirs / tail:.1f} x")
    table.add_row("with process", f"{whole:.2f}", f"{theirs / whole:.1f} x")
    table.caption = (
        f"{images} images, {detections} detections each, {classes} classes; threads: "
        f"{torch.get_num_threads()}; equal figures"
    )
    show(table)


def _make_files(folder: Path, truth: dict, case: tuple[int, int, int]) -> None:
    """Write annotations, images, config and checkpoint."""
    names = {one["id"]: f"{one['id']:012}.jpg" for one in truth["images"]}
    listed = [one | {"file_name": names[one["id"]]} for one in truth["images"]]
    (folder / "truth.json").write_text(json.dumps(truth | {"images": listed}))
    (folder / "images").mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "one.jpg")
    for file_name in names.values():
        os.link(folder / "one.jpg", folder / "images" / file_name)
    images, detections, classes = case
    config = _CONFIG.format(
        root=folder, images=images, detections=detections, classes=classes
    )
    (folder / "config.py").write_text(config)
    save_state_dict({"unused": torch.zeros(1)}, folder / "weights.pth")


def _test(folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Test as ``tools/test.py`` does; return times and figures."""
    options = {"tta": False, "out": None, "show_dir": None, "check": False}
    common = {"cfg_options": None, "launcher": "none", "deterministic": False}
    test(
        Namespace(
            config=str(folder / "config.py"),
            safe_config=False,
            checkpoint=str(folder / "weights.pth"),
            work_dir=str(folder / "run"),
            **options,
            **common,
        )
    )
    end = time.perf_counter()
    taken = json.loads((folder / "times.json").read_text())
    times = {
        "process": taken["process"],
        "evaluation": taken["evaluated"] - taken["last"],
        "record": end - taken["evaluated"],
    }
    records, _ = load_records([folder / "run/records"])
    (record,) = records.values()
    return times, record.metrics


def _original(path: Path, samples: list[dict]) -> tuple[dict[str, float], list[float]]:
    """What pycocotools does with predictions that lie in an array; it is given them."""
    truth = COCO(str(path))
    rows = []
    for sample in samples:
        found = {name: one.numpy() for name, one in sample["pred_instances"].items()}
        boxes = found["bboxes"].astype(float)
        sides = boxes[:, 2:] - boxes[:, :2]
        ids = np.full(len(boxes), sample["img_id"])
        columns = (ids, boxes[:, :2], sides, found["scores"], found["labels"] + 1)
        rows.append(np.column_stack(columns))
    array = np.concatenate(rows)
    start = time.perf_counter()
    results = truth.loadRes(array)
    loaded = time.perf_counter()
    run = COCOeval(truth, results, "bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    times = {"loadRes": loaded - start, "COCOeval": time.perf_counter() - loaded}
    return times, run.stats.tolist()
