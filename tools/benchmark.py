"""Measure any config or backbone, and compare it with another in one run.

Example: python tools/benchmark.py mmrev:RevCol --size 512 --against plain
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.studies.benchmark.arguments import add_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.studies.benchmark.run import run  # not before: it loads torch

    run(args)


if __name__ == "__main__":
    main()
