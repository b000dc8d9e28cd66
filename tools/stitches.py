"""List the stitches of a model: route, parameters, operations, latency, memory."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "with a stitched backbone")
    add("checkpoint", nargs="?", help="default: initial weights")
    add("--size", type=int, default=224, help="of the image, pixels")
    add("--repeats", type=int, default=5, help="0 measures nothing")
    add("--device", default="cpu")
    add("--out", help="table to write, JSON, for pick_stitch")
    add("--records", nargs="+", metavar="FOLDER", help="with those of StitchTestLoop")
    add("--metric", metavar="KEY", help="of the records; default: AP, mIoU or top-1")
    add("--plot", help="page of quality against cost to write, .html")
    args = parser.parse_args(argv)
    from mmrev.operating_points.table import list_stitches  # not before: it loads torch

    list_stitches(args)


if __name__ == "__main__":
    main()
