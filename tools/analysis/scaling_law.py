"""Fit laws of error against compute or parameters, a family each.

Example: python tools/analysis/scaling_law.py work_dirs --cost params
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, fit and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    where = "folders of records, to be fitted beside the published figures"
    parser.add_argument("roots", nargs="*", metavar="DIR", help=where)
    costs = dict(choices=("flops", "params", "compute"), default="flops")
    what = "operations or parameters of testing, or operations of the training"
    parser.add_argument("--cost", **costs, help=what)
    what = "as cross_entropy; default: what each record is ranked by"
    parser.add_argument("--metric", metavar="NAME", help=what)
    args = parser.parse_args(argv)
    from mmrev.leaderboard.scaling_law import show_laws  # not before: it takes a while

    show_laws(args.roots, args.cost, args.metric)


if __name__ == "__main__":
    main()
