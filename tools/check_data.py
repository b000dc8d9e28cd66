"""Look at every file that the runs of a config would read, and report what is wrong."""

import os
from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments, add_override_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and check; the exit status is 1 if something would end or distort a run."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of detection, segmentation or classification")
    add("--workers", type=int, default=os.cpu_count(), help="default: one a core")
    add("--out", metavar="DIR", help="of the reports; default: data in the work dir")
    add_override_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.browse.data_check import check_all_data  # not before: it loads torch

    raise SystemExit(check_all_data(args))


if __name__ == "__main__":
    main()
