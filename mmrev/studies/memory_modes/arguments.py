"""What ``tools/analysis/memory_modes.py`` asks for; standard library only."""

from argparse import ArgumentParser

__all__ = ["COUPLINGS", "DTYPES", "FAMILIES", "REPORTS", "add_arguments"]

# The names of what `reports`, `networks` and the coupled layers have.
REPORTS = ("growth", "gradients", "bits")
FAMILIES = ("revcol", "swinv2", "nfnet", "reducenet", "vanillanet")
DTYPES = ("fp32", "bf16", "fp16")
COUPLINGS = ("none", "dual", "two-stream")


def add_arguments(parser: ArgumentParser) -> None:
    """What `reports.run` reads."""
    add = parser.add_argument
    reports = "costs of a step over depth, gradients against those of 'store', "
    add("report", choices=REPORTS, help=f"{reports}bits of corrections against gains")
    add("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    add("--arch", nargs="+", metavar="NAME", help="of the families; default: usual")
    add("--coupling", nargs="+", choices=COUPLINGS, help="default: all of a family")
    add("--size", nargs="+", type=int, default=[224], help="of the image, pixels")
    add("--dtype", nargs="+", choices=DTYPES, default=["fp32"], help="of autocast")
    add("--device", default="cpu")
    coefficients = "a and b of the coupling dual; with b = 0 all states are kept"
    two = dict(nargs=2, type=float, metavar=("A", "B"), default=(0.5, 0.5))
    add("--coefficients", **two, help=coefficients)
    depth = "columns, or blocks of stage 3, of the report growth"
    add("--depth", nargs="+", type=int, help=depth)
    add("--repeats", type=int, default=7, help="timed steps")
    add("--plot", metavar="PAGE.html", help="of bytes and seconds over depth to write")
