"""What is known about one result of one model: measured here, or published.

A record is one JSON file. Its id is the hash of everything else in it, so that a record
that was altered is no longer one.
"""

import hashlib
import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    TypeAdapter,
    model_validator,
)

from mmrev.leaderboard.tasks import LOSS_METRIC, MAIN_METRICS, Task, Track
from mmrev.text import printable

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "CheckpointInfo",
    "ConfigInfo",
    "Curve",
    "DataPart",
    "DatasetInfo",
    "Hardware",
    "Lineage",
    "MeasuredRecord",
    "ModelInfo",
    "PredictionFile",
    "PublishedDataset",
    "PublishedModel",
    "PublishedRecord",
    "Record",
    "Seeds",
    "SkippedImages",
    "Software",
    "Source",
    "Speed",
    "Stage",
    "Training",
    "TrainingInfo",
    "best_value",
    "few_stages",
    "in_order",
    "main_metric",
]

SCHEMA_VERSION = 7
# Versions 3 to 7 add fields that are left out where they are empty or unknown, so that
# records of earlier ones are read, hashed and written as they are.
READABLE_VERSIONS = (2, 3, 4, 5, 6, SCHEMA_VERSION)
MAX_POINTS = 200
MAX_PARTS = 100
MAX_REMARKS = 20
MAX_STAGES = 100
MAX_NAME = 200
MAX_TEXT = 1000

# COCO's AP and AR are shares, with -1 where there is nothing to find; others percents.
_SHARE = re.compile(r"(^|/)((bbox|segm|boundary)_|AR(_[sml])?@)")
_PERCENT = re.compile(
    r"(^|/)([ma](IoU|Acc|Dice|Fscore|Precision|Recall)|top\d+|precision|recall|f1-score"
    r"|(.+_)?[PSR]Q)(_|$)"
)


def _printable(text: str) -> str:
    # Control characters steer a terminal, and others turn the reading direction.
    if text != printable(text):
        raise ValueError("expected printable characters only")
    return text


_Plain = AfterValidator(_printable)
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME), _Plain]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT), _Plain]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$"), Text]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
# Height and width, pixels.
Shape = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


def _is_empty(values: list | tuple) -> bool:
    return not values


def _is_unknown(value: object) -> bool:
    return value is None


class _Part(BaseModel):
    # A field of a later schema is an error here rather than silently dropped.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConfigInfo(_Part):
    """The config as it was run.

    Attributes:
        name: File name without its ending.
        sha256: Hash of `resolved`.
        tta: Whether it was tested with the config's test-time augmentation.
        resolved: The config without what depends on the machine, see
            `mmrev.leaderboard.fingerprint.portable`.
    """

    name: Name
    sha256: Sha256
    tta: bool
    resolved: dict[str, JsonValue]


class CheckpointInfo(_Part):
    """The tested weights: file name and hash of the file."""

    name: Name
    sha256: Sha256


class PublishedDataset(_Part):
    """What was tested on: name, as "COCO", and split, as "val2017"."""

    name: Name
    split: Text


class _Data(_Part):
    """What tells a data set from others.

    Attributes:
        split: Annotation file or image folder, relative to the data root.
        type: Class of the data set.
        root: The data root as the config names it, if that is relative; else empty.
        fingerprint: Hash of the annotations, see `mmrev.leaderboard.fingerprint`.
    """

    split: Text
    type: Name
    root: Text
    fingerprint: Sha256


class DataPart(_Data):
    """One of the data sets that were tested together.

    Attributes:
        folder: Number of its data root among the different ones, from which the names
            of its images in the stored predictions begin if there are several.
    """

    folder: Count


class DatasetInfo(_Data, PublishedDataset):
    """What was tested on.

    Attributes:
        name: Of the data, as "COCO".
        images_expected: Images of the split.
        images_evaluated: Images that predictions were made for.
        images_unreadable: The others: no predictions came for them.
        parts: The data sets, where several were tested together; then `split`, `type`
            and `fingerprint` are of all.
    """

    images_expected: Count
    images_evaluated: Count
    images_unreadable: Count
    # A tuple: what was tested on is looked up by all of this.
    parts: Annotated[tuple[DataPart, ...], Field(max_length=MAX_PARTS)] = Field(
        default=(), exclude_if=_is_empty
    )

    @model_validator(mode="after")
    def _none_is_lost(self) -> "DatasetInfo":
        found = self.images_evaluated + self.images_unreadable
        if found != self.images_expected:
            raise ValueError(
                f"expected images_expected={self.images_expected} images evaluated or "
                f"unreadable, got {self.images_evaluated} + {self.images_unreadable}"
            )
        return self


class PublishedModel(_Part):
    """What is known of a model.

    Attributes:
        name: For display, as "RevCol-T".
        family: As "RevCol".
        backbone: Its class, or the paper's name of it.
        head: What predicts from the features, as "DINO".
        params: Parameters; of a published record as printed.
        params_activated: Of them, those that one image activates, where experts share
            the images; None where all do.
        flops: Multiply-adds of one image.
        flops_shape: Height and width that `flops` is of, pixels.
        stitch: Id of the stitch of a stitched model.
    """

    name: Name
    family: Name
    backbone: Name
    head: Name
    params: Count | None = None
    params_activated: Count | None = Field(default=None, exclude_if=_is_unknown)
    flops: Count | None = None
    flops_shape: Shape | None = None
    stitch: Count | None = None


class ModelInfo(PublishedModel):
    """Kind, size and cost of the whole model.

    Attributes:
        type: Class of the model.
        params: Parameters, trainable or not; of a stitched model, those in use.
        flops: Multiply-adds of testing the first image of the split.
        flops_shape: Height and width at which it entered the model.
    """

    type: Name
    params: Count
    flops: Count
    flops_shape: Shape


class Curve(_Part):
    """A scalar over the iterations of the training, at most 200 points."""

    steps: Annotated[list[Count], Field(max_length=MAX_POINTS)]
    values: Annotated[list[Finite], Field(max_length=MAX_POINTS)]

    @model_validator(mode="after")
    def _as_many(self) -> "Curve":
        if len(self.steps) != len(self.values):
            raise ValueError(
                f"expected as many values as steps, got {len(self.values)} and "
                f"{len(self.steps)}"
            )
        return self


class SkippedImages(_Part):
    """Training images that could not be read, in whose place others were drawn.

    Attributes:
        images: How many images.
        total: Of how many.
        draws: How often one of them was drawn.
    """

    images: Count
    total: Count
    draws: Count

    @property
    def told(self) -> str:
        """As "2 of 100 training images"."""
        return f"{self.images} of {self.total} training images"


def _length(epochs: int | None, iterations: int | None) -> str:
    for count, what in ((epochs, "epoch"), (iterations, "iteration")):
        if count:
            return f"{count} {what}{'s' * (count > 1)}"
    return ""


class Training(_Part):
    """A training whose checkpoint others start from, as that checkpoint tells.

    Attributes:
        name: Of its config.
        kind: Classes of the model, a wrapper before what it wraps, as "SimMIM".
        data: What was trained on.
        epochs: None where the training counts iterations, or nobody knows.
        iterations: None where nobody knows.
        seed: None where nobody knows.
        starts: What it started from, in turn.
    """

    name: Name
    kind: Name
    data: Text | None = Field(default=None, exclude_if=_is_unknown)
    epochs: Count | None = Field(default=None, exclude_if=_is_unknown)
    iterations: Count | None = Field(default=None, exclude_if=_is_unknown)
    seed: int | None = Field(default=None, exclude_if=_is_unknown)
    starts: "Lineage" = Field(default=[], exclude_if=_is_empty)

    @property
    def length(self) -> str:
        """As "12 epochs", or in iterations; empty where nobody knows."""
        return _length(self.epochs, self.iterations)


class Stage(Training):
    """A training on the way to the weights of another, or weights of others.

    Attributes:
        kind: 'weights' of a file that tells of no training; its name is the file's.
        data: Of 'weights', where they were published, if that is known.
        checkpoint: The file that the next training started from.
    """

    checkpoint: CheckpointInfo


def few_stages(starts: Any) -> Any:
    """Return what may be a lineage, if it has no more stages than one may have.

    Args:
        starts: As it comes: what repeats itself by reference would grow without end.

    Raises:
        ValueError: It has more.
    """
    count, left = 0, [starts]
    while left:
        level = left.pop()
        stages = level if isinstance(level, list | tuple) else ()
        count += len(stages)
        if count > MAX_STAGES:
            raise ValueError(f"expected at most {MAX_STAGES} stages, got more")
        left += [one.get("starts") for one in stages if isinstance(one, dict)]
    return starts


Lineage = Annotated[list[Stage], BeforeValidator(few_stages)]


class TrainingInfo(_Part):
    """Where the weights come from.

    Attributes:
        data: What was trained on.
        pretraining: Data or checkpoints that the training started from, first to last,
            where no lineage is known.
        lineage: What the training started from, each with what that started from.
        track: What became of the backbone: 'frozen', 'tuned' from weights that it
            started with, or trained from 'scratch'; None where nobody knows.
        epochs: None where the training counts iterations, or nobody knows.
        iterations: None where the training counts epochs, or nobody knows.
        batch: Images of an iteration, of all processes; None where nobody knows.
        curves: By name, as "loss"; from the log beside the checkpoint, if there is one.
        skipped: Images that could not be read; None where all could.
        skipped_steps: Steps left out, as not finite; None where none was.
        deterministic: Whether ops had to give the same bits in every run; None where
            they had not, or nobody knows.
    """

    data: Text | None = None
    pretraining: Annotated[list[Text], Field(max_length=20)] = []
    lineage: Lineage = Field(default=[], exclude_if=_is_empty)
    track: Track | None = Field(default=None, exclude_if=_is_unknown)
    epochs: Count | None = None
    iterations: Count | None = None
    batch: Count | None = Field(default=None, exclude_if=_is_unknown)
    curves: Annotated[dict[Name, Curve], Field(max_length=20)] = {}
    skipped: SkippedImages | None = Field(default=None, exclude_if=_is_unknown)
    skipped_steps: Count | None = Field(default=None, exclude_if=_is_unknown)
    deterministic: bool | None = Field(default=None, exclude_if=_is_unknown)

    @property
    def length(self) -> str:
        """As "12 epochs", or in iterations; empty where nobody knows."""
        return _length(self.epochs, self.iterations)

    @property
    def stages(self) -> list[Stage]:
        """The stages of the lineage as of `in_order`."""
        return in_order(self.lineage)

    @property
    def origins(self) -> list[str]:
        """What the training started from by name, first to last."""
        return [stage.name for stage in self.stages] or self.pretraining


class Speed(_Part):
    """Cost of testing the first image of the split alone.

    Attributes:
        latency_ms: Median milliseconds of a test step, pre- and postprocessing too.
        latency_quartiles_ms: First and third quartile; None in records from before they
            were noted.
        repeats: Steps that were timed.
        peak_memory_mb: Megabytes (1e6) that one step allocates at its peak, without the
            weights.
        batch: Images.
        input_shape: Height and width that entered the model, pixels.
        device: As "cpu" or "cuda".
    """

    latency_ms: Amount
    latency_quartiles_ms: tuple[Amount, Amount] | None = Field(
        default=None, exclude_if=_is_unknown
    )
    repeats: Count
    peak_memory_mb: Amount
    batch: Count
    input_shape: Shape
    device: Name


class PredictionFile(_Part):
    """The stored predictions: file name and hash of the file."""

    name: Name
    sha256: Sha256
    format: Literal["mmrev-predictions-1"]


class Software(_Part):
    """Versions, and what computed.

    Attributes:
        python: Version.
        packages: Version by name.
        commit: Of mmrev's own git tree; None if it is installed.
        dirty: Whether that tree had changes; None if it is installed.
        ops: What computed those of mmcv's ops that ran, see `mmrev.ops.ran`; None in
            records from before it was noted.
    """

    python: Name
    packages: Annotated[dict[Name, Name], Field(max_length=100)]
    commit: Name | None
    dirty: bool | None
    ops: Annotated[dict[Name, Name], Field(max_length=100)] | None = Field(
        default=None, exclude_if=_is_unknown
    )

    @property
    def ops_told(self) -> str:
        """What computed mmcv's ops, in words."""
        if self.ops is None:
            return "unknown"
        libraries: dict[str, list[str]] = {}
        for op, library in self.ops.items():
            libraries.setdefault(library, []).append(op)
        found = [f"{', '.join(ops)} by {one}" for one, ops in libraries.items()]
        return "compiled" if "all" in self.ops else "; ".join(found) or "none ran"


class Hardware(_Part):
    """Where it ran: model name and number of cores, and each GPU's name."""

    cpu: Text
    cores: Count
    gpus: Annotated[list[Text], Field(max_length=1000)]


class Seeds(_Part):
    """Seeds of the training (as the checkpoint tells) and of the test."""

    train: int | None
    test: int


class Source(_Part):
    """Where a published figure stands: title, address, and table or section."""

    title: Name
    url: Url
    where: Name


def _in_range(metrics: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in metrics.items():
        if value is None:
            continue
        if not math.isfinite(value):
            raise ValueError(f"{name}: expected a finite number or null, got {value}")
        if _SHARE.search(name) and not (value == -1 or 0 <= value <= 1):
            raise ValueError(f"{name}: expected 0..1, or -1 for none, got {value}")
        if _PERCENT.search(name) and not 0 <= value <= 100:
            raise ValueError(f"{name}: expected 0..100, got {value}")
    return metrics


class _Record(_Part):
    """What both kinds have.

    Attributes:
        schema_version: Version of this form.
        id: Hash of everything else in the record; computed where it is not given.
        metrics: Under the evaluator's names and units: COCO's AP and AR as shares of
            1, the others in percent. Null is no number.
        protocols: What the numbers mean.
    """

    schema_version: Literal[READABLE_VERSIONS] = SCHEMA_VERSION
    id: Sha256 = Field(default="", validate_default=False)
    task: Task
    metrics: Annotated[
        dict[Name, float | None],
        Field(min_length=1, max_length=10_000),
        AfterValidator(_in_range),
    ]
    protocols: Annotated[list[Text], Field(max_length=20)]
    training: TrainingInfo

    @model_validator(mode="after")
    def _id_is_the_content(self) -> "_Record":
        content = self.model_dump(mode="json", exclude={"id"})
        text = json.dumps(
            content, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        found = hashlib.sha256(text.encode()).hexdigest()
        if not self.id:
            object.__setattr__(self, "id", found)
        elif self.id != found:
            raise ValueError(
                f"altered: its id is {self.id[:12]}, its content hashes to {found[:12]}"
            )
        return self

    def to_bytes(self) -> bytes:
        """The record as its file holds it."""
        return self.model_dump_json(indent=2).encode() + b"\n"


class MeasuredRecord(_Record):
    """One test of one model by this suite.

    Attributes:
        date: When the test ended, UTC.
        wall_time: Seconds for all images, loading and evaluation included.
        speed: Measured after the test; None if that was not possible.
        remarks: What a reader of the metrics must know of the data.
    """

    kind: Literal["measured"] = "measured"
    date: datetime
    wall_time: Amount
    config: ConfigInfo
    checkpoint: CheckpointInfo
    model: ModelInfo
    dataset: DatasetInfo
    speed: Speed | None
    predictions: PredictionFile | None
    seeds: Seeds
    software: Software
    hardware: Hardware
    remarks: Annotated[list[Text], Field(max_length=MAX_REMARKS)] = Field(
        default=[], exclude_if=_is_empty
    )

    @property
    def incomplete(self) -> str:
        """How much of its data the test saw where that is not all, else empty."""
        data = self.dataset
        if not data.images_unreadable:
            return ""
        return f"{data.images_evaluated} of {data.images_expected} images"


class PublishedRecord(_Record):
    """One figure that a paper or repository prints; nothing here was run for it.

    Attributes:
        config: The config of this suite that has its setting, if one has.
        note: What a reader must know to compare it.
    """

    kind: Literal["published"] = "published"
    source: Source
    model: PublishedModel
    dataset: PublishedDataset
    config: Name | None = None
    note: Text = ""
    incomplete: ClassVar[str] = ""


Record = Annotated[MeasuredRecord | PublishedRecord, Field(discriminator="kind")]
SCHEMA: TypeAdapter[Record] = TypeAdapter(Record)


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Stages and what they started from, first to last, each once."""
    found: dict[str, Stage] = {}
    for stage in stages:
        for one in (*in_order(stage.starts), stage):
            found.setdefault(one.checkpoint.sha256, one)
    return list(found.values())


def best_value(metric: str) -> int:
    """The value of a perfect model: 1 for COCO's shares, 0 for a loss, else 100."""
    if metric == LOSS_METRIC:
        return 0
    return 1 if _SHARE.search(metric) else 100


def main_metric(record: Record) -> str:
    """The name of the metric that a record is ranked by: its task's, or its first."""
    name = MAIN_METRICS[record.task]
    return name if name in record.metrics else next(iter(record.metrics))
