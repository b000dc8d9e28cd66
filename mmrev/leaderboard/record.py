"""What is known about one test of one model."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CheckpointInfo",
    "ConfigInfo",
    "DatasetInfo",
    "Hardware",
    "ModelInfo",
    "PredictionFile",
    "Record",
    "Seeds",
    "Software",
]

SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class _Part(BaseModel):
    # A field of a later schema is an error here rather than silently dropped.
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConfigInfo(_Part):
    """The config as it was run.

    Attributes:
        name: File name without its ending.
        sha256: Hash of the resolved config without what depends on the machine.
        tta: Whether it was tested with the config's test-time augmentation.
    """

    name: str
    sha256: str = SHA256
    tta: bool


class CheckpointInfo(_Part):
    """The tested weights: file name and hash of the file."""

    name: str
    sha256: str = SHA256


class DatasetInfo(_Part):
    """What was tested on.

    Attributes:
        type: Class of the data set.
        split: Annotation file or image folder, relative to the data root.
        fingerprint: Hash of the annotations, see :mod:`.fingerprint`.
        images_expected: Images of the split.
        images_evaluated: Images that predictions were made for.
    """

    type: str
    split: str
    fingerprint: str = SHA256
    images_expected: int
    images_evaluated: int


class ModelInfo(_Part):
    """Size and cost of the whole model.

    Attributes:
        type: Class of the model.
        backbone: Class of its backbone.
        params: Parameters, trainable or not; of a stitched model, those in use.
        flops: Multiply-adds of testing the first image of the split.
        flops_shape: Height and width at which it entered the model.
        stitch: Id of the stitch that was tested; None if the model has none.
    """

    type: str
    backbone: str
    params: int
    flops: int
    flops_shape: tuple[int, int]
    stitch: int | None = None


class PredictionFile(_Part):
    """The dumped predictions: file name and hash of the file."""

    name: str
    sha256: str = SHA256


class Software(_Part):
    """Versions; `commit` and `dirty` are of mmrev's own git tree, None if installed."""

    python: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None


class Hardware(_Part):
    """Where it ran: model name and number of cores, and each GPU's name."""

    cpu: str
    cores: int
    gpus: list[str]


class Seeds(_Part):
    """Seeds of the training (as the checkpoint tells) and of the test."""

    train: int | None
    test: int


class Record(_Part):
    """One test of one model.

    Attributes:
        schema_version: Version of this form.
        date: When the test ended, UTC.
        wall_time: Seconds for all images, loading and evaluation included.
        metrics: As the evaluator returned them, under its names and units.
        protocols: For each evaluator, what its numbers mean.
    """

    schema_version: Literal[1] = 1
    date: datetime
    wall_time: float
    config: ConfigInfo
    checkpoint: CheckpointInfo
    dataset: DatasetInfo
    model: ModelInfo
    metrics: dict[str, float | None]
    protocols: list[str]
    predictions: PredictionFile | None
    seeds: Seeds
    software: Software
    hardware: Hardware
