"""Measure what the memory modes cost, and compare their gradients.

Example: python tools/analysis/memory_modes.py growth --size 224 512 --plot growth.html
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.studies.memory_modes.arguments import add_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and print one report."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.studies.memory_modes.reports import run  # not before: it loads torch

    run(args)


if __name__ == "__main__":
    main()
