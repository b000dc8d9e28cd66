"""Measure memory, time, growth and gradient error of RevCol's memory modes.

Example: python tools/analysis/memory_modes.py cost --arch tiny small --size 224
"""

from argparse import ArgumentParser

from mmrev.studies.memory_modes import print_costs, print_gradient_errors, print_growth

REPORTS = {
    "cost": print_costs,
    "growth": print_growth,
    "gradients": print_gradient_errors,
}


def main(argv: list[str] | None = None) -> None:
    """Parse and print one report."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("report", choices=REPORTS)
    parser.add_argument("--arch", nargs="+", default=["tiny", "small", "base"])
    parser.add_argument("--size", nargs="+", type=int, default=[224], help="pixels")
    args = parser.parse_args(argv)
    REPORTS[args.report](args.arch, args.size)


if __name__ == "__main__":
    main()
