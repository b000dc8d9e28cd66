"""Hold the latency of a stitched backbone on a stream of frames under CPU load."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, stream and print."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "with a stitched backbone")
    add("checkpoint")
    add("table", help="of tools/stitches.py --out, measured on this machine")
    add("--frames", required=True, help="folder of images")
    add("--budget-ms", type=float, required=True, help="largest latency of a frame")
    add("--count", type=int, default=300, help="frames; the images repeat")
    add("--size", type=int, default=224, help="of a frame, pixels, as of the table")
    add("--load", type=int, help="busy processes in the middle third; default: cores")
    add("--plot", help=".png of latency and stitch over the frames")
    args = parser.parse_args(argv)
    from mmrev.studies.stream import stream_stitches  # not before: it loads torch

    stream_stitches(args)


if __name__ == "__main__":
    main()
