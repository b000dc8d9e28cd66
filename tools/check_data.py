"""Look at every file that the runs of a config would read, and report what is wrong."""

import os
from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and check; the exit status is 1 if something would end or distort a run."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.browse.data_check import check_all_data
    from mmrev.runs.config import add_config_arguments
    from mmrev.runs.overrides import OverrideAction

    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of detection, segmentation or classification")
    add("--workers", type=int, default=os.cpu_count(), help="default: one a core")
    add("--out", metavar="DIR", help="of the reports; default: data in the work dir")
    add("--cfg-options", nargs="+", action=OverrideAction, metavar="KEY=VALUE")
    raise SystemExit(check_all_data(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
