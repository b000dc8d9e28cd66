"""Look at ground truth and predictions, worst images first, in one page of HTML."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments, add_override_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and write the page."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of detection or segmentation")
    add("checkpoint", nargs="?", help="default: the ground truth alone")
    add("--images", type=int, default=200, help="evenly spread over the data set")
    add("--split", choices=["test", "train"], default="test", help="of the data")
    add("--out", metavar="FILE", help="default: browse.html in the work dir")
    add_override_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.browse.browse import browse  # not before: it loads torch

    browse(args)


if __name__ == "__main__":
    main()
