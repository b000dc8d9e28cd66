"""The record that a test leaves."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmrev.errors import UserError, shortened
from mmrev.evaluation.coverage import image_key, image_keys
from mmrev.evaluation.predictions import FORMAT, DumpPredictions
from mmrev.hashes import file_sha256
from mmrev.leaderboard.environment import hardware, software
from mmrev.leaderboard.fingerprint import (
    annotations_of,
    config_sha256,
    joined_sha256,
    plain_sha256,
    portable,
)
from mmrev.leaderboard.lineage import told_training, training_info
from mmrev.leaderboard.record import (
    MAX_TEXT,
    CheckpointInfo,
    ConfigInfo,
    DataPart,
    DatasetInfo,
    MeasuredRecord,
    ModelInfo,
    PredictionFile,
    Seeds,
    Speed,
    Task,
)
from mmrev.leaderboard.store import save_record
from mmrev.measure.costs import paired_costs
from mmrev.measure.flops import count_flops
from mmrev.models.layers.moe import activated_parameters
from mmrev.models.stitching import StitchedBackbone
from mmrev.models.supervision import SupervisedModel
from mmrev.paths import below
from mmrev.wrappers import plain_datasets

__all__ = ["RecordHook"]

# Timed steps; the figures go beside the accuracy and are no benchmark.
_REPEATS = 5
_FAMILIES = {
    "StitchedBackbone": "Stitched",
    "SwinTransformer": "Swin",
    "SwinTransformerV2": "Swin-V2",
}
_DATASETS = {
    "ADE20KDataset": "ADE20K",
    "ImageNet": "ImageNet-1k",
    "Objects365V1Dataset": "Objects365 v1",
    "Objects365V2Dataset": "Objects365 v2",
}


class RecordHook(Hook):
    """Writes a record when a test is over.

    Args:
        out_dir: Folder of the records.
        config: Resolved, before testing changed anything.
        tta: Whether the test uses test-time augmentation.
    """

    # After every other hook, so that it records what they reported.
    priority = "LOWEST"

    def __init__(self, out_dir: str, config: Mapping[str, Any], tta: bool = False):
        self.out_dir = out_dir
        self.config = config
        self.tta = tta
        self._meta: dict[str, Any] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what the checkpoint tells of its training.

        Raises:
            UserError: It tells a wrong lineage.
        """
        self._meta = checkpoint.get("meta") or {}
        try:
            told_training(self._meta, runner._load_from)
        except ValueError as error:
            raise UserError(str(error)) from error

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the clock."""
        self._sizes: dict[str, tuple[int, int] | None] = {}
        self._start = time.perf_counter()

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Sequence[Any] | None = None,
    ) -> None:
        """Note each image's height and width once: samplers may repeat some."""
        for sample in outputs:
            shape = sample.get("ori_shape")
            self._sizes[image_key(sample)] = shape and tuple(shape[:2])

    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, float] | None = None
    ) -> None:
        """Write the record and tell where."""
        wall_time = time.perf_counter() - self._start
        sizes = {}
        for found in all_gather_object(self._sizes):
            sizes |= found
        if not is_main_process():
            return
        if not metrics:
            runner.logger.warning("no record: the evaluator returned no metric")
            return
        name = Path(runner.cfg.filename).stem
        config = portable(self.config)
        datasets = list(plain_datasets(runner.test_dataloader.dataset))
        remarks = [*_other_sizes(datasets, sizes)]
        for remark in remarks:
            runner.logger.warning(remark)
        for metric in runner.test_evaluator.metrics:
            remarks += getattr(metric, "remarks", ())
        step, sample = _first_image(runner)
        shape = _input_shape(sample)
        record = MeasuredRecord(
            task=_task(sample, metrics),
            date=datetime.now(timezone.utc),
            wall_time=round(wall_time, 3),
            config=ConfigInfo(
                name=name,
                sha256=config_sha256(config),
                tta=self.tta,
                resolved=config,
            ),
            checkpoint=CheckpointInfo(
                name=Path(runner._load_from).name,
                sha256=file_sha256(runner._load_from),
            ),
            training=training_info(
                self.config,
                self.config.get("load_from"),
                self._meta,
                runner._load_from,
            ),
            dataset=_dataset(datasets, config, len(sizes)),
            model=ModelInfo(
                # OpenMMLab's file names begin with the backbone.
                name=name.partition("_")[0],
                **_parts(_plain(runner.model)),
                **_size(_plain(runner.model)),
                flops=count_flops(step),
                flops_shape=shape,
            ),
            speed=_speed(runner, step, shape),
            metrics={key: _finite(value) for key, value in metrics.items()},
            protocols=[
                protocol
                for metric in runner.test_evaluator.metrics
                if (protocol := _protocol(metric))
            ],
            predictions=_predictions(runner),
            seeds=Seeds(train=self._meta.get("seed"), test=runner.seed),
            software=software(),
            hardware=hardware(),
            remarks=[_recordable(remark) for remark in remarks],
        )
        path = save_record(record, self.out_dir)
        if record.incomplete:
            runner.logger.warning(f"only {record.incomplete} were tested")
        runner.logger.info(f"mmcv's ops: {record.software.ops_told}")
        runner.logger.info(f"Record: {path}")


def _recordable(text: str) -> str:
    """Without what a record may not hold: names of images and classes are anybody's."""
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _plain(model: nn.Module) -> nn.Module:
    """Return the model that is deployed: without wrappers and training-only heads."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model.model if isinstance(model, SupervisedModel) else model


def _size(model: nn.Module) -> dict[str, int]:
    """What the model has of parameters; of a stitched one, what its stitch uses.

    Of one with experts also what an image's token meets.
    """
    params = {id(p): p.numel() for p in model.parameters()}
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, StitchedBackbone):
        size = {"params": sum(params.values())}
        if (activated := activated_parameters(model)) < size["params"]:
            size["params_activated"] = activated
        return size
    used = {id(p) for p in backbone.parameters_of(backbone.stitch)}
    for parameter in backbone.parameters():
        if id(parameter) not in used:
            del params[id(parameter)]
    return {"params": sum(params.values()), "stitch": backbone.stitch}


def _predictions(runner: Runner) -> PredictionFile | None:
    """The file that the predictions were dumped to, if they were."""
    for metric in runner.test_evaluator.metrics:
        if isinstance(metric, DumpPredictions):
            path = metric.out_file_path
            return PredictionFile(
                name=Path(path).name, sha256=file_sha256(path), format=FORMAT
            )
    return None


def _finite(value: Any) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _dataset(
    datasets: Sequence[Any], config: Mapping[str, Any], evaluated: int
) -> DatasetInfo:
    """Describe the data sets of a test, none of which wraps another.

    Args:
        datasets: In the order of their images.
        config: `portable` form.
        evaluated: Images that predictions were made for.
    """
    settings = config["test_dataloader"]["dataset"]
    roots = [str(getattr(one, "data_root", None) or "") for one in datasets]
    numbers = {root: number for number, root in enumerate(dict.fromkeys(roots))}
    parts, names = [], {}
    for dataset, root in zip(datasets, roots, strict=True):
        annotations, folders = annotations_of(dataset)
        split = below(str(annotations or (folders or [""])[0]), root).strip("/")
        kind = type(dataset).__name__
        names[_dataset_name(kind, split, root)] = None
        part = DataPart(
            split=split,
            type=kind,
            root="" if PurePath(root).is_absolute() else root,
            fingerprint=plain_sha256(dataset, settings),
            folder=numbers[root],
        )
        parts.append(part)
    expected = _number_of_images(datasets)
    return DatasetInfo(
        name=shortened(names),
        split=shortened(dict.fromkeys(part.split for part in parts)),
        type=shortened(dict.fromkeys(part.type for part in parts)),
        root=parts[0].root if len(numbers) == 1 else "",
        fingerprint=joined_sha256([part.fingerprint for part in parts]),
        images_expected=expected,
        images_evaluated=evaluated,
        images_unreadable=expected - evaluated,
        parts=parts if len(parts) > 1 else [],
    )


def _number_of_images(datasets: Sequence[Any]) -> int:
    """How many there are; one that several data sets have counts once."""
    if len(datasets) == 1:
        return len(datasets[0])
    return len({key for one in datasets for key in image_keys(one)})


def _other_sizes(
    datasets: Sequence[Any], sizes: Mapping[str, tuple[int, int] | None]
) -> Iterator[str]:
    """Say which images are not of the size that the annotations state.

    Args:
        datasets: As of `_dataset`.
        sizes: Height and width of each image as it was loaded, by its key.
    """
    found = []
    for dataset in datasets:
        # Label maps state no size.
        if not getattr(dataset, "ann_file", None):
            continue
        for info in map(dataset.get_data_info, range(len(dataset))):
            stated = info.get("height"), info.get("width")
            loaded = sizes.get(image_key(info))
            if None not in (loaded, *stated) and loaded != stated:
                turned = ", turned" if loaded == stated[::-1] else ""
                found.append(
                    f"{image_key(info)} is {loaded[1]}x{loaded[0]}{turned}, not "
                    f"{stated[1]}x{stated[0]}"
                )
    if found:
        yield (
            f"{len(found)} of {len(sizes)} images are not of the size that their "
            f"annotations state, which miss the objects then: {shortened(found, 3)}. "
            "Images are turned as their EXIF orientation asks; annotate them so, or "
            "remove it."
        )


def _dataset_name(kind: str, split: str, root: str) -> str:
    """What readers call the data; many data sets come in COCO's form."""
    coco = kind in ("CocoDataset", "CocoPanopticDataset")
    if coco and split.endswith(("_val2017.json", "_train2017.json")):
        return "COCO"
    return _DATASETS.get(kind) or PurePath(root).name or kind


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


def _task(sample: Any, metrics: Mapping[str, float]) -> Task:
    """The task that a metric is of; a model of masks may be tested for its boxes."""
    if "pred_sem_seg" in sample:
        return "semantic segmentation"
    # Its boxes and masks may be tested alone, too.
    if any(name.rpartition("/")[2] == "PQ" for name in metrics):
        return "panoptic segmentation"
    if "pred_instances" in sample:
        masks = any("segm_" in name or "boundary_" in name for name in metrics)
        return "instance segmentation" if masks else "detection"
    return "classification"


def _parts(model: nn.Module) -> dict[str, str]:
    """Class of the model and of its backbone, the backbone's family, and the head."""
    backbone = type(getattr(model, "backbone", model)).__name__
    head = getattr(model, "decode_head", getattr(model, "head", None))
    kind = type(model).__name__
    return {
        "type": kind,
        "backbone": backbone,
        "family": _FAMILIES.get(backbone, backbone),
        # A detector's class says more than that of its last head.
        "head": kind if head is None else type(head).__name__.removesuffix("Head"),
    }


def _first_image(runner: Runner) -> tuple[Callable[[], Any], Any]:
    """A test step with the first image alone, and what it returns."""
    loader = runner.test_dataloader
    batch = loader.collate_fn([loader.dataset[0]])
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model

    def step() -> Any:
        return model.test_step(batch)

    return step, step()[0]


def _input_shape(sample: Any) -> tuple[int, int]:
    """Height and width at which an image entered the model."""
    keys = ("batch_input_shape", "pad_shape", "img_shape")
    height, width = next(
        sample.metainfo[key] for key in keys if key in sample.metainfo
    )[:2]
    return int(height), int(width)


def _speed(runner: Runner, step: Callable, shape: tuple[int, int]) -> Speed:
    device = next(runner.model.parameters()).device
    cost = paired_costs({"step": step}, _REPEATS, device)["step"]
    seconds = cost.seconds
    quartiles = (seconds.lower, seconds.upper)
    return Speed(
        latency_ms=round(seconds.median * 1000, 3),
        latency_quartiles_ms=tuple(round(one * 1000, 3) for one in quartiles),
        repeats=_REPEATS,
        peak_memory_mb=round(cost.peak / 1e6, 3),
        batch=1,
        input_shape=shape,
        device=device.type,
    )
