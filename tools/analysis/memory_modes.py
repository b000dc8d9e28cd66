"""Measure what the memory modes cost, and compare their gradients.

Example: python tools/analysis/memory_modes.py growth --size 224 512 --plot growth.html
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and print one report."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.studies.memory_modes import add_arguments, run

    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_arguments(parser)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
