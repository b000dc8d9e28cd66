"""The record that a test leaves."""

import math
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmrev.analysis.flops import count_flops
from mmrev.leaderboard.environment import hardware, software
from mmrev.leaderboard.fingerprint import dataset_sha256, file_sha256
from mmrev.leaderboard.record import (
    CheckpointInfo,
    ConfigInfo,
    DatasetInfo,
    ModelInfo,
    PredictionFile,
    Record,
    Seeds,
)
from mmrev.leaderboard.store import save_record
from mmrev.models.stitching import StitchedBackbone
from mmrev.models.supervision import SupervisedModel
from mmrev.registry import HOOKS

__all__ = ["RecordHook"]


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes a record when a test is over.

    Args:
        out_dir: Folder of the records.
        config_sha256: Hash of the resolved config, taken before anything was added.
        tta: Whether the test uses test-time augmentation.
    """

    # After every other hook, so that it records what they reported.
    priority = "LOWEST"

    def __init__(
        self,
        out_dir: str,
        config_sha256: str,
        tta: bool = False,
    ):
        self.out_dir = out_dir
        self.config_sha256 = config_sha256
        self.tta = tta
        self._train_seed: int | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the seed of the training."""
        self._train_seed = checkpoint.get("meta", {}).get("seed")

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._images: set[Any] = set()
        self._start = time.perf_counter()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Count images by path: distributed samplers repeat some to fill a batch."""
        self._images.update(sample.img_path for sample in outputs)

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the record and tell where."""
        wall_time = time.perf_counter() - self._start
        images = set().union(*all_gather_object(self._images))
        if not is_main_process():
            return
        model = _plain(runner.model)
        flops, flops_shape = _cost(runner)
        record = Record(
            date=datetime.now(timezone.utc),
            wall_time=round(wall_time, 3),
            config=ConfigInfo(
                name=Path(runner.cfg.filename).stem,
                sha256=self.config_sha256,
                tta=self.tta,
            ),
            checkpoint=CheckpointInfo(
                name=Path(runner._load_from).name,
                sha256=file_sha256(runner._load_from),
            ),
            dataset=_dataset(runner.test_dataloader.dataset, len(images)),
            model=ModelInfo(
                type=type(model).__name__,
                backbone=type(getattr(model, "backbone", model)).__name__,
                **_size(model),
                flops=flops,
                flops_shape=flops_shape,
            ),
            metrics={key: _finite(value) for key, value in metrics.items()},
            protocols=[
                protocol
                for metric in runner.test_evaluator.metrics
                if (protocol := _protocol(metric))
            ],
            predictions=_predictions(runner),
            seeds=Seeds(train=self._train_seed, test=runner.seed),
            software=software(),
            hardware=hardware(),
        )
        path = save_record(record, self.out_dir)
        expected = record.dataset.images_expected
        if len(images) != expected:
            runner.logger.warning(f"only {len(images)} of {expected} images tested")
        runner.logger.info(f"Record: {path}")


def _plain(model: nn.Module) -> nn.Module:
    """Return the model that is deployed: without wrappers and training-only heads."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model.model if isinstance(model, SupervisedModel) else model


def _size(model: nn.Module) -> dict[str, int]:
    """What the model has of parameters; of a stitched one, what its stitch uses."""
    params = {id(p): p.numel() for p in model.parameters()}
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, StitchedBackbone):
        return {"params": sum(params.values())}
    used = {id(p) for p in backbone.parameters_of(backbone.stitch)}
    for parameter in backbone.parameters():
        if id(parameter) not in used:
            del params[id(parameter)]
    return {"params": sum(params.values()), "stitch": backbone.stitch}


def _predictions(runner: Runner) -> PredictionFile | None:
    """The file that the predictions were dumped to, if they were."""
    for metric in runner.test_evaluator.metrics:
        if isinstance(metric, DumpResults):
            path = metric.out_file_path
            return PredictionFile(name=Path(path).name, sha256=file_sha256(path))
    return None


def _finite(value: Any) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _dataset(dataset: Any, evaluated: int) -> DatasetInfo:
    expected = len(dataset)
    while hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    annotations = getattr(dataset, "ann_file", None) or None
    prefix = getattr(dataset, "data_prefix", None) or {}
    folders = [folder for folder in prefix.values() if folder]
    root = getattr(dataset, "data_root", None) or ""
    place = str(annotations or (folders[0] if folders else ""))
    return DatasetInfo(
        type=type(dataset).__name__,
        split=place.removeprefix(str(root)).strip("/"),
        fingerprint=dataset_sha256(annotations, folders),
        images_expected=expected,
        images_evaluated=evaluated,
    )


def _protocol(metric: BaseMetric) -> str | None:
    """Say what a metric's numbers mean where that is not what its name says."""
    if hasattr(metric, "protocol"):  # ours know
        return metric.protocol
    name = type(metric).__name__
    if name.startswith("Dump"):
        return None
    if name != "CocoMetric":
        return name
    most = metric.proposal_nums[-1]
    if most == 100:
        return "COCO (pycocotools, 100 detections)"
    return (
        f"mmdet CocoMetric, not standard COCO: mAP at 100 detections, "
        f"the other columns at {most}"
    )


def _cost(runner: Runner) -> tuple[int, tuple[int, int]]:
    """Count what testing the first image costs, and the input size of that."""
    loader = runner.test_dataloader
    batch = loader.collate_fn([loader.dataset[0]])
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    outputs = []
    flops = count_flops(lambda: outputs.extend(model.test_step(batch)))
    meta = outputs[0].metainfo
    keys = ("batch_input_shape", "pad_shape", "img_shape")
    height, width = next(meta[key] for key in keys if key in meta)[:2]
    return flops, (int(height), int(width))
