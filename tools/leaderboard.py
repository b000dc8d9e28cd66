"""List the records of tools/test.py, or render them as a markdown table."""

import sys
from argparse import ArgumentParser

from rich.console import Console

from mmrev.leaderboard import load_records, markdown, terminal


def main(argv: list[str] | None = None) -> None:
    """Parse, read and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["list", "render"])
    parser.add_argument("roots", nargs="*", default=["work_dirs"], metavar="DIR")
    args = parser.parse_args(argv)
    records, rejected = load_records(args.roots)
    for path, reason in rejected.items():
        print(f"skipped {path}: {reason}", file=sys.stderr)
    if not records:
        sys.exit(f"error: no record in {' '.join(args.roots)}; run tools/test.py first")
    if args.command == "render":
        print(markdown(records.values()), end="")
    else:
        Console().print(terminal(records.values()))


if __name__ == "__main__":
    main()
