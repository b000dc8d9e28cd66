"""Fit laws of error against compute or parameters, a family each.

Example: python tools/analysis/scaling_law.py work_dirs --cost params
"""

import sys
from argparse import ArgumentParser

from mmrev.console import show
from mmrev.leaderboard import load_records
from mmrev.leaderboard.published import published_records
from mmrev.leaderboard.scaling_law import COSTS, laws_table
from mmrev.text import printable


def main(argv: list[str] | None = None) -> None:
    """Parse, fit and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    where = "folders of records, to be fitted beside the published figures"
    parser.add_argument("roots", nargs="*", metavar="DIR", help=where)
    parser.add_argument("--cost", choices=COSTS, default="flops")
    args = parser.parse_args(argv)
    records, rejected = load_records(args.roots)
    for path, reason in rejected.items():
        print(printable(f"skipped {path}: {reason}"), file=sys.stderr)
    show(laws_table([*records.values(), *published_records()], args.cost))


if __name__ == "__main__":
    main()
