"""Measure the memory modes of a config's backbone, and plan them for a budget.

Example: python tools/plan_memory.py CONFIG --size 800 1344 --batch 2 --budget-mb 9000
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.console import show
    from mmrev.runs.config import add_config_arguments
    from mmrev.runs.memory import memory_table

    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add_config_arguments(parser, "of any model with a backbone of this suite")
    add("--size", type=int, nargs=2, required=True, metavar=("H", "W"), help="pixels")
    add("--batch", type=int, default=1, help="images on a device")
    add("--budget-mb", type=float, help="beside weights and gradients, MB (1e6)")
    add("--device", default="cpu")
    show(memory_table(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
