"""Suites as files: which configs, for which backbones, heads, data and seeds."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails

from mmrev.errors import UserError, nearest
from mmrev.limits import refuse_larger
from mmrev.runs.safe_config import WithoutMerges
from mmrev.text import printable

__all__ = ["Run", "Suite", "axes_of", "choices_of", "read_suite"]

_MOST_BYTES = 1_000_000


def _numbers_too(value: Any) -> Any:
    # `depth: [18, 34, 50]` needs no quotes.
    return str(value) if type(value) is int else value


def _different(values: list) -> list:
    if twice := [value for value in values if values.count(value) > 1]:
        raise ValueError(f"expected each once, got {twice[0]!r} twice")
    return values


Name = Annotated[str, StringConstraints(pattern=r"^\w[\w.-]*$", max_length=100)]
Value = Annotated[str, BeforeValidator(_numbers_too), StringConstraints(min_length=1)]
Values = Annotated[list[Value], Field(min_length=1), AfterValidator(_different)]
Seeds = Annotated[
    list[Annotated[StrictInt, Field(ge=0)]],
    Field(min_length=1),
    AfterValidator(_different),
]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Run(_Part):
    """One training of each backbone and data that its config names, and its test.

    Attributes:
        config: Path with ``{axis}`` in the place of what the matrix lists.
        matrix: Values of axes for this run, in the place of the suite's.
        start: The run whose last checkpoint takes the place of the weights that the
            config starts from.
        test: Whether a record is made; a run that only pretrains needs none.
        options: Values of the config by dotted key, beside the suite's.
        train_args: More arguments of ``tools/train.py``.
    """

    config: str
    matrix: dict[Name, Values] = {}
    start: str | None = None
    test: StrictBool = True
    options: dict[str, Any] = {}
    train_args: list[Literal["--amp", "--auto-scale-lr", "--deterministic"]] = []


class Suite(_Part):
    """A benchmark.

    Attributes:
        name: For display.
        out: Folder of everything that comes of it; default: work_dirs/sweep-<name>.
        seeds: Every run is trained with each.
        retries: How often a cell that failed is tried again.
        gpus: Of one job; 1 is none where there is none.
        matrix: Values by axis.
        runs: By name.
        options: Of every run.
        slurm: Parameters of submitit's SlurmExecutor, as ``partition`` or ``time``.
    """

    name: Name
    out: str = ""
    seeds: Seeds
    retries: Annotated[StrictInt, Field(ge=0)] = 1
    gpus: Annotated[StrictInt, Field(ge=0)] = 1
    matrix: dict[Name, Values] = {}
    runs: Annotated[dict[Name, Run], Field(min_length=1)]
    options: dict[str, Any] = {}
    slurm: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return Path(self.out or f"work_dirs/sweep-{self.name}")


class _OnceLoader(WithoutMerges):
    """Refuses a key that stands twice: YAML would drop the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        self.flatten_mapping(node)  # no merges, whose key is none that can be built
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            line = node.start_mark.line + 1
            raise yaml.YAMLError(f"key {twice[0]!r} twice in the part at line {line}")
        return super().construct_mapping(node, deep)


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises:
        UserError: It cannot be read; says what is wrong with it.
    """
    path = Path(path)
    try:
        refuse_larger(f"suite {path}", path.stat().st_size, _MOST_BYTES)
        content = yaml.load(path.read_text("utf-8"), _OnceLoader)
    except OSError as error:
        siblings = [file.name for file in path.parent.glob("*.yaml")]
        hint = f"; {nearest(path.name, siblings)}" if siblings else ""
        raise UserError(f"suite {path}: {error.strerror}{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = printable(" ".join(str(error).split()))
        raise UserError(f"suite {path}: not YAML: {text}") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise UserError(f"suite {path}: expected keys and values, got {kind}.")
    try:
        suite = Suite.model_validate(content)
    except ValidationError as error:
        raise UserError(f"suite {path}: {_reason(error)}") from None
    if message := _misfit(suite):
        raise UserError(f"suite {path}: {message}")
    return suite


def axes_of(run: Run) -> list[str]:
    """The axes that a run's config names, in their order.

    Raises:
        ValueError: Its braces do not match.
    """
    named = [field for _, field, _, _ in Formatter().parse(run.config)]
    return list(dict.fromkeys(field for field in named if field is not None))


def choices_of(suite: Suite, run: Run) -> Iterator[dict[str, str]]:
    """Every choice of values of the axes that a run's config names."""
    axes = {axis: {**suite.matrix, **run.matrix}[axis] for axis in axes_of(run)}
    for values in product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _reason(error: ValidationError) -> str:
    # A key that is misspelt is missing, too.
    errors = sorted(error.errors(include_url=False), key=_is_missing)
    first = errors[0]
    *parents, last = first["loc"] or ("",)
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).lstrip(".")
    if first["type"] == "extra_forbidden":
        fields = (Run if parents else Suite).model_fields
        return f"unknown key '{where}'; {nearest(str(last), fields)}"
    if first["type"] == "missing":
        return f"'{where}' is missing."
    got = printable(repr(first["input"]))[:80]
    return f"{where}: {first['msg'].removeprefix('Value error, ')}, got {got}."


def _is_missing(error: ErrorDetails) -> bool:
    return error["type"] == "missing"


def _misfit(suite: Suite) -> str | None:
    """Say what does not fit together: axes, starts."""
    used = set()
    for name, run in suite.runs.items():
        try:
            axes = axes_of(run)
        except ValueError as error:
            return f"runs.{name}.config: {error} in {run.config!r}."
        known = {**suite.matrix, **run.matrix}
        used |= set(axes) - run.matrix.keys()
        for axis in axes:
            if axis not in known:
                hint = nearest(axis, known) if known else "there is no matrix."
                return f"runs.{name}.config: no axis '{axis}' in the matrix; {hint}"
        for axis in run.matrix:
            if axis not in axes:
                return (
                    f"runs.{name}.matrix.{axis}: its config does not name "
                    f"{{{axis}}}: {run.config}."
                )
        if run.start is not None and run.start not in suite.runs:
            hint = nearest(run.start, suite.runs)
            return f"runs.{name}.start: no run '{run.start}'; {hint}"
    for axis in suite.matrix:
        if axis not in used:
            return f"matrix.{axis}: no config names {{{axis}}}; remove it."
    return _circle(suite) or _in_vain(suite)


def _circle(suite: Suite) -> str | None:
    for name in suite.runs:
        chain = [name]
        while (start := suite.runs[chain[-1]].start) is not None:
            chain.append(start)
            if start == name:
                return f"runs start from each other: {' <- '.join(chain)}."
            if chain.count(start) > 1:
                break  # a circle further on, which its own runs tell
    return None


def _in_vain(suite: Suite) -> str | None:
    starts = {run.start for run in suite.runs.values()}
    for name, run in suite.runs.items():
        if not run.test and name not in starts:
            return (
                f"runs.{name}: nothing starts from it and it is not tested; name it as "
                "'start' of a run, or remove test: false."
            )
    return None
