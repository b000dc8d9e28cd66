"""Tables of the memory modes' figures, one for each network, size and precision."""

import itertools
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.table import Table

from mmrev.atomic import write_bytes
from mmrev.console import quiet, show
from mmrev.errors import UserError
from mmrev.studies.devices import require_device
from mmrev.studies.memory_modes import figures
from mmrev.studies.memory_modes.figures import MEBIBYTE
from mmrev.studies.memory_modes.networks import FAMILIES, Case

# Of RevCol, or b of a coupling.
GAINS = (0.02, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0)
# Pixels; with less, a batch norm of one image sees a single one.
SMALLEST = 64


def run(args: Namespace) -> None:
    """Measure and print what was asked for.

    Args:
        args: of `mmrev.studies.memory_modes.arguments`.

    Raises:
        UserError: names the option at fault.
    """
    quiet()
    _check(args)
    try:
        REPORTS[args.report](_cases(args), args)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{args.device} has not enough memory; take a smaller --size, --arch or "
            "--depth."
        ) from error


def _check(args: Namespace) -> None:
    for name, least in (("size", SMALLEST), ("depth", 1), ("repeats", 1)):
        given = getattr(args, name)
        for value in given if isinstance(given, Sequence) else [given]:
            if value is not None and value < least:
                raise UserError(f"--{name} must be at least {least}, got {value}.")
    for family, arch in itertools.product(args.family, args.arch or ()):
        if arch not in (sizes := FAMILIES[family].sizes):
            raise UserError(
                f"--arch of {family} must be one of {', '.join(sizes)}, got {arch!r}."
            )
    if args.plot and args.report != "growth":
        raise UserError(f"--plot goes with the report growth, got {args.report}.")
    if args.plot and Path(args.plot).suffix != ".html":
        raise UserError(
            f"--plot must end in .html, got {args.plot}; the page's camera saves a PNG."
        )
    require_device(args.device)


def _cases(args: Namespace) -> list[Case]:
    cases = [
        Case(
            family=FAMILIES[name],
            arch=arch,
            coupling=coupling,
            coefficients=tuple(args.coefficients),
            size=size,
            dtype=dtype,
            device=args.device,
        )
        for name in args.family
        for arch in args.arch or FAMILIES[name].usual
        for coupling in FAMILIES[name].couplings
        for size in args.size
        for dtype in args.dtype
    ]
    if args.coupling:
        wanted = [None if name == "none" else name for name in args.coupling]
        cases = [case for case in cases if case.is_columns or case.coupling in wanted]
    if args.report == "bits":
        cases = [case for case in cases if "reverse" in case.modes]
    if not cases:
        given = " ".join(["--family", *args.family])
        if args.coupling:
            given += " ".join([" --coupling", *args.coupling])
        raise UserError(
            f"{args.report}: expected --family revcol, or a --coupling that one has "
            f"of the families, got {given}."
        )
    return cases


def _table(case: Case, *columns: str) -> Table:
    table = Table(title=f"{case.name}; {case.place}", title_justify="left")
    table.caption_justify = "left"
    for column in columns:
        table.add_column(column, justify="left" if column == "mode" else "right")
    return table


def report_growth(cases: Sequence[Case], args: Namespace) -> None:
    """Peak memory and time over depth, and what one more column or block costs."""
    draw = _drawing() if args.plot else None
    found = []
    for case in cases:
        depths = sorted({*(args.depth or case.family.deeper)})
        found.append(figures.growth(case, depths, args.repeats))
        show(_growth_table(found[-1]))
        if draw:  # every time: an interruption takes away no more than it must
            write_bytes(args.plot, draw(found))


def _drawing() -> Callable[[Sequence[figures.Growth]], bytes]:
    try:
        from mmrev.studies.memory_modes.plot import draw_html
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        raise UserError(f"--plot needs {package}: pip install {package}.") from error
    return draw_html


def _growth_table(growth: figures.Growth) -> Table:
    unit = growth.case.unit
    table = _table(
        growth.case,
        "mode",
        f"{unit}s",
        "peak MiB",
        "step s",
        "MiB each",
        "of store",
        "of states",
    )
    for mode, costs in growth.costs.items():
        for depth, cost in costs.items():
            row = [mode, str(depth), f"{cost.peak / MEBIBYTE:.1f}"]
            row.append(f"{cost.seconds.median:.3f}")
            if (slope := growth.slopes(mode).get(depth)) is not None:
                row += [
                    f"{slope / MEBIBYTE:.3f}",
                    f"{slope / growth.slopes('store')[depth]:.2%}",
                    f"{slope / growth.states:.3f}",
                ]
            table.add_row(*row)
        table.add_section()
    table.caption = (
        f"each {unit} more than in the line above; its states take "
        f"{growth.states / MEBIBYTE:.3f} MiB"
    )
    return table


def report_gradients(cases: Sequence[Case], args: Namespace) -> None:
    """Of how many tensors the gradients are not those of 'store', bit for bit."""
    for case in cases:
        table = _table(case, "mode", "tensors", "unequal", "error of all")
        model = case.build()
        for name, one in figures.differences(case, model).items():
            table.add_row(name, str(one.tensors), str(one.unequal), f"{one.error:.1e}")
        table.caption = case.remark(model)
        show(table)


def report_bits(cases: Sequence[Case], args: Namespace) -> None:
    """What corrections take, against the gain of RevCol or b of a coupling."""
    columns = ("bits an element", "most of a state", "of states' bytes", "kept")
    for case in cases:
        name = "gain" if case.is_columns else "b, a = 1 - b"
        table = _table(case, name, *columns)
        for gain in (1.0,) if case.coupling == "two-stream" else GAINS:
            model = case.build()
            if one := figures.bits(case, model, gain):
                table.add_row(
                    f"{gain:g}",
                    f"{one.correction:.2f}",
                    f"{one.most:.2f}",
                    f"{one.taken:.3f}",
                    f"{one.kept:.0%}",
                )
        table.caption = case.remark(model)
        show(table)


REPORTS = {
    "growth": report_growth,
    "gradients": report_gradients,
    "bits": report_bits,
}
