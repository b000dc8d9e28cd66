"""What an analysis of features finds: its file, and its table."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from torch import Tensor

from mmrev.leaderboard.record import CheckpointInfo, Hardware, Software
from mmrev.measure.magnitude import Magnitude
from mmrev.measure.similarity import Alignment

__all__ = [
    "BlockReport",
    "Factors",
    "Field",
    "Report",
    "Similarity",
    "Sizes",
    "Source",
    "StateReport",
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """What was analysed: name of the config, and hash of its portable form."""

    name: str
    sha256: str


class Similarity(_Part):
    """CKA and its standard error; null where undefined."""

    value: float | None
    error: float | None

    @classmethod
    def of(cls, alignment: Alignment) -> "Similarity":
        """What batches gave."""
        return cls(value=alignment.value, error=alignment.error)


class Sizes(_Part):
    """Root mean square, standard deviation and largest absolute value.

    Null where values were not finite.
    """

    rms: float | None
    std: float | None
    max: float | None

    @classmethod
    def of(cls, magnitude: Magnitude) -> "Sizes":
        """Of all values that were added."""
        found = {"rms": magnitude.rms, "std": magnitude.std, "max": magnitude.max}
        return cls(**{k: v if math.isfinite(v) else None for k, v in found.items()})


class Factors(_Part):
    """Absolute values of learnt factors, as gains and layer scales."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> "Factors | None":
        """Of all elements of some tensors; None if there is none."""
        values = [value for one in tensors for value in one.abs().flatten().tolist()]
        if not values:
            return None
        mean = sum(values) / len(values)
        return cls(mean=mean, min=min(values), max=max(values))


class Field(_Part):
    """Of the effective receptive field.

    Attributes:
        area_50: share of the image's area that holds half of all contributions.
        area_95: that holds 95 % of them; both null if nothing contributes.
        map: contributions in cells of the image, rows from the top, their sum 1.
    """

    area_50: float | None
    area_95: float | None
    map: list[list[float]]


class StateReport(_Part):
    """Of a state of the backbone.

    Attributes:
        column: its column; null of a backbone without columns.
        level: see `mmrev.studies.features.states.State`.
        shape: channels, height, width.
        image: CKA with the images.
        label: CKA with the labels; null if there were none.
        sizes: of its values.
        gain: by which the state of the column before was kept in it.
        field: null if none was computed.
    """

    column: int | None
    level: int
    shape: tuple[int, int, int]
    image: Similarity
    label: Similarity | None
    sizes: Sizes
    gain: Factors | None
    field: Field | None


class BlockReport(_Part):
    """Of a block, see `mmrev.studies.features.states.watched`.

    Attributes:
        name: its place in the backbone.
        level: the state of the same height and width; null if none, or several, have.
        input: of what it reads.
        branch: of what it adds to that.
        layer_scale: of its learnt factors, if it has some.
    """

    name: str
    level: int | None
    input: Sizes
    branch: Sizes
    layer_scale: Factors | None

    @property
    def growth(self) -> float | None:
        """How large the branch is beside its input; None where that is not known."""
        if not self.input.rms or self.branch.rms is None:
            return None
        return self.branch.rms / self.input.rms


class Report(_Part):
    """All that was found.

    Attributes:
        date: UTC.
        checkpoint: null if the weights were initial ones.
        backbone: its class.
        stitch: of a stitched backbone, the id of the route.
        split: of the data.
        label: what labels are; null if there were none.
        images: that CKA and sizes are of.
        batch_size: of the images.
        field_images: that receptive fields are of.
        input_shape: height and width at which images entered the model.
        seed: of the choice of images, of random signs and initial weights.
        states: in the order of computation.
        blocks: likewise.
    """

    format: Literal["mmrev-features-1"] = "mmrev-features-1"
    date: datetime
    config: Source
    checkpoint: CheckpointInfo | None
    backbone: str
    stitch: int | None
    split: str
    label: str | None
    images: int
    batch_size: int
    field_images: int
    input_shape: tuple[int, int]
    seed: int
    device: str
    software: Software
    hardware: Hardware
    states: list[StateReport]
    blocks: list[BlockReport]

    @property
    def title(self) -> str:
        """What was analysed, in words."""
        weights = self.checkpoint.name if self.checkpoint else "initial weights"
        route = "" if self.stitch is None else f", stitch {self.stitch}"
        return f"{self.backbone} of {self.config.name}, {weights}{route}"

    @property
    def levels(self) -> list[int]:
        """Each once, in the order of computation."""
        return list(dict.fromkeys(state.level for state in self.states))

    def table(self) -> Table:
        """States, a row each, to be printed by rich."""
        height, width = self.input_shape
        table = Table(
            title=self.title,
            caption=(
                f"{self.images} {self.split} images of {height}x{width} in batches of "
                f"{self.batch_size}, receptive fields of {self.field_images}"
                + (f"; label: {self.label}" if self.label else "")
            ),
            caption_justify="left",
        )
        table.add_column("state", no_wrap=True)
        for name in ("shape", "CKA image", "CKA label", "RMS", "max", "gain"):
            table.add_column(name, justify="right")
        table.add_column("field 50 %", justify="right")
        table.add_column("95 %", justify="right")
        for state in self.states:
            field = state.field
            column = "" if state.column is None else f"column {state.column} "
            table.add_row(
                f"{column}level {state.level}",
                "x".join(map(str, state.shape)),
                _alignment(state.image),
                _alignment(state.label),
                _short(state.sizes.rms),
                _short(state.sizes.max),
                _short(state.gain and state.gain.mean),
                _share(field and field.area_50),
                _share(field and field.area_95),
            )
        return table


def _alignment(found: Similarity | None) -> str:
    if found is None or found.value is None:
        return "-"
    error = "" if found.error is None else f" ±{found.error:.3f}"
    return f"{round(found.value, 3) + 0.0:.3f}{error}"  # no -0.000


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"
