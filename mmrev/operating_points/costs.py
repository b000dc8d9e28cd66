"""What each stitch of a stitched backbone costs, and which one fits a budget."""

import copy
from collections.abc import Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from mmrev.atomic import write_bytes
from mmrev.limits import TABLE, refuse_larger
from mmrev.measure.costs import paired_costs
from mmrev.models.stitching import StitchedBackbone
from mmrev.models.stitching.counts import (
    count_stitch_params,
    run_stitch,
    stitch_flops,
)
from mmrev.operating_points.ratings import Ratings


class StitchCost(BaseModel):
    """One stitch.

    Attributes:
        id: of the stitch.
        route: to read, as ``0 >(s2: 3>5)> 1``.
        params: that it uses.
        params_as_reference: as `count_stitch_params` says.
        flops: multiply-adds of an image.
        latency_ms: median time of an image; None if not measured.
        memory_mb: peak of what an image allocates, MiB, above the parameters; None if
            not measured.
        metric: how well it does, more is better; None if that is not known.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    id: int
    route: str
    params: int
    params_as_reference: int
    flops: int
    latency_ms: float | None = None
    memory_mb: float | None = None
    metric: float | None = None


_TABLE = TypeAdapter(list[StitchCost])


@torch.no_grad()
def stitch_costs(
    model: StitchedBackbone,
    image_size: int = 224,
    repeats: int = 5,
    device: str = "cpu",
) -> list[StitchCost]:
    """Count and measure every stitch, in evaluation mode.

    Args:
        model: itself untouched.
        image_size: height and width of the one image, pixels.
        repeats: timed rounds over all stitches in turn; 0 measures nothing.
        device: where to measure.

    Returns:
        One row a stitch, by id.
    """
    twin = copy.deepcopy(model).eval()
    ids = twin.stitch_ids
    costs = [
        StitchCost(
            id=stitch,
            route=str(twin.routes[stitch]),
            params=count_stitch_params(twin, stitch),
            params_as_reference=count_stitch_params(twin, stitch, as_reference=True),
            flops=flops,
        )
        for stitch, flops in zip(ids, stitch_flops(twin, ids, image_size), strict=True)
    ]
    if not repeats:
        return costs
    twin.to(device)
    image = torch.randn(1, 3, image_size, image_size, device=device)
    steps = {stitch: partial(run_stitch, twin, stitch, image) for stitch in ids}
    found = paired_costs(steps, repeats, device)
    for cost in costs:
        measured = found[cost.id]
        cost.latency_ms = 1e3 * measured.seconds.median
        cost.memory_mb = measured.peak / 2**20
    return costs


def pick_stitch(
    costs: Sequence[StitchCost],
    *,
    budget_ms: float | None = None,
    gflops: float | None = None,
    memory_mb: float | None = None,
) -> int:
    """The best stitch within all budgets that are given.

    Best is as `quality` says.

    Args:
        costs: of `stitch_costs`.
        budget_ms: largest latency, milliseconds.
        gflops: largest number of multiply-adds, billions.
        memory_mb: largest peak of memory, MiB.

    Returns:
        Its id.

    Raises:
        ValueError: if no stitch fits, with what would; or if a budget is of something
            that was not measured.
    """
    if not costs:
        raise ValueError("pick_stitch: expected a table of stitches, got an empty one.")
    left = list(costs)
    for name, budget, values in (
        ("budget_ms", budget_ms, {cost.id: cost.latency_ms for cost in costs}),
        ("gflops", gflops, {cost.id: cost.flops / 1e9 for cost in costs}),
        ("memory_mb", memory_mb, {cost.id: cost.memory_mb for cost in costs}),
    ):
        if budget is None:
            continue
        if None in values.values():
            raise ValueError(
                f"pick_stitch: {name}={budget} needs a table that was measured; make "
                "it with repeats > 0."
            )
        fitting = [cost for cost in left if values[cost.id] <= budget]
        if not fitting:
            least = min(left, key=lambda cost: values[cost.id]).id
            raise ValueError(
                f"pick_stitch: no stitch meets {name}={budget}; of those within the "
                f"budgets before it, stitch {least} needs least, {values[least]:.4g}."
            )
        left = fitting
    return max(quality(left), key=itemgetter(1))[0].id


def quality(costs: Sequence[StitchCost]) -> list[tuple[StitchCost, float]]:
    """The stitches with how good each is: the metric.

    Of stitches without one nothing is known, and they are left out, unless no stitch
    has one: then it is the operations.
    """
    known = [(cost, cost.metric) for cost in costs if cost.metric is not None]
    return known or [(cost, cost.flops) for cost in costs]


def pareto_front(
    costs: Sequence[StitchCost], by: str = "latency_ms"
) -> list[StitchCost]:
    """The stitches that no other beats in both cost and `quality`.

    Args:
        costs: of `stitch_costs`.
        by: the cost, a column of `StitchCost`.

    Returns:
        Cheap to dear.

    Raises:
        ValueError: if there is no stitch, or one whose cost was not measured.
    """
    rated = quality(costs)
    if not rated or any(getattr(cost, by) is None for cost, _ in rated):
        raise ValueError(
            f"pareto_front: expected a table with {by} of every stitch, got one that "
            "was not measured; make it with repeats > 0."
        )
    front: list[StitchCost] = []
    best = float("-inf")
    for cost, good in sorted(rated, key=lambda pair: (getattr(pair[0], by), -pair[1])):
        if good > best:
            front.append(cost)
            best = good
    return front


def save_costs(costs: Sequence[StitchCost], path: str | Path) -> None:
    """Write a table as JSON."""
    write_bytes(path, _TABLE.dump_json(costs, indent=1))


def load_costs(path: str | Path) -> list[StitchCost]:
    """Read a table that `save_costs` wrote.

    Raises:
        ValueError: if it is none, naming the file.
        FileNotFoundError: if there is no such file.
    """
    try:
        refuse_larger(f"{path}", Path(path).stat().st_size, TABLE)
        return _TABLE.validate_json(Path(path).read_bytes())
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path}: expected a table of stitches; {where}: {first['msg']}."
        ) from error


def costs_table(costs: Sequence[StitchCost], ratings: Ratings | None = None) -> Table:
    """The same to read, to be printed by rich.

    Args:
        costs: of `stitch_costs`; with `ratings`, their metrics filled in.
        ratings: adds the metric and the front: a star marks the stitches that no other
            beats in both metric and latency, or operations if latency is not measured.
    """
    caption = ["as ref.: as the code of SN-Net counts; ms and MB: of one image"]
    names = ["id", "params M", "as ref.", "GMACs", "ms", "MB"]
    front = set()
    if ratings:
        measured = all(cost.latency_ms is not None for cost in costs)
        by, what = ("latency_ms", "ms") if measured else ("flops", "GMACs")
        front = {cost.id for cost in pareto_front(costs, by)}
        name = ratings.metric.rpartition("/")[2]
        names += [name, "*"]
        caption += [f"*: no other is better in both {name} and {what}", *ratings.notes]
    # As text, since square brackets in a name would be rich's markup.
    table = Table(caption=Text("\n".join(caption)), caption_justify="left")
    for name in names:
        table.add_column(Text(name), justify="right", no_wrap=True)
    table.add_column("route")
    for cost in costs:
        measured = (cost.latency_ms, cost.memory_mb)
        rated = [_or_dash(cost.metric, ".4g"), "*" * (cost.id in front)]
        table.add_row(
            str(cost.id),
            f"{cost.params / 1e6:.2f}",
            f"{cost.params_as_reference / 1e6:.2f}",
            f"{cost.flops / 1e9:.2f}",
            *(_or_dash(value, ".1f") for value in measured),
            *(rated if ratings else ()),
            cost.route,
        )
    return table


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
