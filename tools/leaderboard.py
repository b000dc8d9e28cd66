"""Add, list, show, compare and verify records, or build the page of them."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.leaderboard.arguments import add_commands


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run a command."""
    parser = ArgumentParser(description=__doc__)
    add_commands(parser)
    args = parser.parse_args(argv)
    from mmrev.leaderboard.cli import run  # not before: it takes a while

    run(args)


if __name__ == "__main__":
    main()
