"""The figures of a benchmark: a file, and a table."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.table import Table
from rich.text import Text as Cell

from mmrev.atomic import write_bytes
from mmrev.errors import UserError
from mmrev.leaderboard.record import (
    Amount,
    Count,
    Finite,
    Hardware,
    Name,
    Shape,
    Software,
    Text,
)
from mmrev.limits import TABLE, refuse_larger
from mmrev.measure.speed import Spread
from mmrev.studies.benchmark.measuring import Found

__all__ = [
    "Benchmark",
    "Measurement",
    "forms",
    "load",
    "measurements",
    "save",
    "table",
]

MEBIBYTE = 2**20
SHARED = {
    "model": "",
    "form": "",
    "images": "",
    "params M": " M parameters",
    "GMACs": " GMACs",
}
"""Columns that stand in the title, with what follows, where all lines have the same."""
WORDS = ("file", "model", "form", "task", "images")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quartiles(_Part):
    """The median of several numbers, and their first and third quartile."""

    median: Amount
    lower: Amount
    upper: Amount

    @classmethod
    def of(cls, spread: Spread, unit: float = 1.0) -> "Quartiles":
        """Of a spread, in a unit of its own."""
        values = (spread.median, spread.lower, spread.upper)
        median, lower, upper = (round(value / unit, 4) for value in values)
        return cls(median=median, lower=lower, upper=upper)


class Ratio(_Part):
    """What was measured in turn, in one process, over its baseline.

    Attributes:
        baseline: the index of that in `Benchmark.measurements`.
        time: of the rounds, each over the baseline's.
        peak: of `Measurement.peak_memory`.
        difference: largest one of outputs, relative to the largest of a level; of whole
            models that of their losses; None if they have different weights.
    """

    baseline: Count
    time: Quartiles
    peak: Amount
    difference: Amount | None


class Measurement(_Part):
    """One model in one form at one place.

    Attributes:
        model: as it was asked for, with its settings.
        task: 'forward', an evaluation; 'train', forward and backward pass.
        size: height and width of the images, pixels.
        batch: images.
        memory: mode of the backbone; None for its own.
        dtype: of autocast.
        layout: of images and weights.
        boxes: in an image, of a detector; None for the usual number.
        compiled: whether by torch.compile.
        latency_ms: of a step, milliseconds.
        images_per_second: of the median.
        peak_memory: bytes that a step allocates at its peak, above those at its start:
            without weights, and without the gradients of weights.
        process_peak: bytes that a process which does nothing else holds at most; on a
            GPU those that torch has reserved there. None if not measured.
        params: parameters.
        flops: multiply-adds of the forward pass of an image.
        loss: of a training step; None if it is not finite.
        ratio: to the baseline; None of a baseline.
    """

    model: Text
    task: Literal["forward", "train"]
    size: Shape
    batch: Count
    memory: Name | None
    dtype: Name
    layout: Name
    boxes: Count | None
    compiled: bool
    latency_ms: Quartiles
    images_per_second: Amount
    peak_memory: Count
    process_peak: Count | None
    params: Count
    flops: Count
    loss: Finite | None
    ratio: Ratio | None

    @property
    def place(self) -> str:
        """Where it was measured, in words."""
        height, width = self.size
        side = f"{height}" if height == width else f"{height}x{width}"
        return f"{side} px, batch {self.batch}"


class Benchmark(_Part):
    """What one process measured.

    Attributes:
        format: of the file.
        date: UTC.
        device: where.
        threads: of torch.
        repeats: timed rounds.
        warm_up: rounds before.
        measurements: a baseline precedes those that it is one of.
    """

    format: Literal["mmrev-benchmark-1"] = "mmrev-benchmark-1"
    date: datetime
    device: Name
    threads: Count
    repeats: Count
    warm_up: Count
    measurements: Annotated[tuple[Measurement, ...], Field(max_length=10_000)]
    software: Software
    hardware: Hardware


def measurements(groups: Iterable[Sequence[Found]]) -> list[Measurement]:
    """The same as a file has it."""
    rows: list[Measurement] = []
    for group in groups:
        start = len(rows)
        for one in group:
            ratio = None
            if one.baseline is not None:
                ratio = Ratio(
                    baseline=start + group.index(one.baseline),
                    time=Quartiles.of(one.times),
                    peak=round(one.cost.peak / max(one.baseline.cost.peak, 1), 4),
                    difference=one.difference,
                )
            place, seconds = one.form.place, one.cost.seconds
            rows.append(
                Measurement(
                    model=one.name,
                    task=place.task,
                    size=place.size,
                    batch=place.batch,
                    memory=one.form.memory,
                    dtype=place.dtype,
                    layout=place.layout,
                    boxes=place.boxes,
                    compiled=one.form.compiled,
                    latency_ms=Quartiles.of(seconds, 1e-3),
                    images_per_second=round(place.batch / seconds.median, 4),
                    peak_memory=one.cost.peak,
                    process_peak=one.process_peak,
                    params=one.params,
                    flops=one.flops,
                    loss=one.loss if isfinite(one.loss or 0.0) else None,
                    ratio=ratio,
                )
            )
    return rows


def save(benchmark: Benchmark, path: str | Path) -> None:
    """Write a benchmark as JSON."""
    write_bytes(path, benchmark.model_dump_json(indent=1).encode() + b"\n")


def load(path: str | Path) -> Benchmark:
    """Read what `save` wrote.

    Raises:
        UserError: there is no such file, or it is none.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such file: {path}; --out writes one.")
    try:
        refuse_larger(f"{path}", path.stat().st_size, TABLE)
        return Benchmark.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"{path}: expected a file of tools/benchmark.py --out; {where}: "
            f"{first['msg']}."
        ) from error
    except ValueError as error:
        raise UserError(f"{error}") from error


def table(benchmarks: Mapping[str, Benchmark]) -> Table:
    """Benchmarks to read, to be printed by rich; what all lines share is the title.

    Args:
        benchmarks: by the names of their files.
    """
    named = [(name, one) for name, b in benchmarks.items() for one in b.measurements]
    every = [one for _, one in named]
    baselines = [one.ratio is None for one in every]
    rows = []
    for (name, one), form in zip(named, forms(every), strict=True):
        file = {"file": name} if len(benchmarks) > 1 else {}
        rows.append({**file, **_row(one, form)})
    shared = {
        name: rows[0][name]
        for name in SHARED
        if len(rows) > 1 and rows[0][name] and len({row[name] for row in rows}) == 1
    }
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    names = [name for name in names if name not in shared]
    # As text, since square brackets in a name would be rich's markup.
    result = Table(caption=Cell(_notes(benchmarks)), caption_justify="left")
    result.title = Cell("; ".join(f"{text}{SHARED[n]}" for n, text in shared.items()))
    result.title_justify = "left"
    for name in names:
        justify = "left" if name in WORDS else "right"
        result.add_column(name, justify=justify, no_wrap=True)
    for row, is_baseline in zip(rows, baselines, strict=True):
        if is_baseline and not all(baselines):
            result.add_section()
        result.add_row(*(Cell(row[name]) for name in names))
    return result


def forms(rows: Sequence[Measurement]) -> list[str]:
    """For each row what tells its form from others', or is not the usual."""
    usual = dict(memory="", dtype="fp32", layout="contiguous", boxes="", way="eager")
    found = [
        {
            "memory": one.memory or "",
            "dtype": one.dtype,
            "layout": one.layout,
            "boxes": f"{one.boxes} boxes" if one.boxes else "",
            "way": "compiled" if one.compiled else "eager",
        }
        for one in rows
    ]
    varied = {key for key in usual if len({one[key] for one in found}) > 1}
    return [
        ", ".join(
            word
            for key, word in one.items()
            if word and (key in varied or word != usual[key])
        )
        for one in found
    ]


def _row(one: Measurement, form: str) -> dict[str, str]:
    """The cells by column, empty where there is nothing to tell."""
    ratio, process = one.ratio, one.process_peak
    return {
        "model": one.model,
        "form": form,
        "task": one.task,
        "images": one.place,
        "ms": _told(one.latency_ms, 1),
        "images/s": f"{one.images_per_second:.4g}",
        "peak MiB": f"{one.peak_memory / MEBIBYTE:.1f}",
        "process MiB": f"{process / MEBIBYTE:.0f}" if process else "",
        "params M": f"{one.params / 1e6:.2f}",
        "GMACs": f"{one.flops / 1e9:.2f}",
        "loss": "" if one.loss is None else f"{one.loss:.6g}",
        "x time": _told(ratio.time, 2) if ratio else "",
        "x faster": f"{1 / ratio.time.median:.2f}" if ratio else "",
        "x peak": f"{ratio.peak:.3f}" if ratio else "",
        "differs": f"{ratio.difference:.1e}"
        if ratio and ratio.difference is not None
        else "",
    }


def _told(spread: Quartiles, digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (spread.lower, spread.upper))
    return f"{spread.median:.{digits}f} ({low}-{high})"


def _notes(benchmarks: Mapping[str, Benchmark]) -> str:
    """How the figures came about."""
    notes = []
    for name, one in benchmarks.items():
        file = f"{name}: " if len(benchmarks) > 1 else ""
        notes.append(
            f"{file}{one.device}, {one.threads} threads, {one.hardware.cpu}; medians "
            f"of {one.repeats} rounds, quartiles in brackets"
        )
    if any(row.ratio for one in benchmarks.values() for row in one.measurements):
        notes.append(
            "x: over the first line of a section, measured in turn; time: of the "
            "rounds' ratios; differs: outputs, of a whole model losses, relative"
        )
    if len(benchmarks) > 1:
        notes.append(
            "No ratio of one file to another: between separate runs a machine has "
            "another load, clock and temperature. Measure both in one, by --against."
        )
    return "\n".join(notes)
