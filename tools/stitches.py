"""List the stitches of a model: route, parameters, operations, latency, memory."""

from argparse import ArgumentParser

from rich.console import Console

from mmrev.analysis.stitches import costs_table
from mmrev.engine.errors import one_line_errors
from mmrev.engine.stitching import measure_stitches


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config")
    parser.add_argument("checkpoint", nargs="?", help="default: initial weights")
    parser.add_argument("--size", type=int, default=224, help="of the image, pixels")
    parser.add_argument("--repeats", type=int, default=5, help="0 measures nothing")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", help="table to write, JSON, for pick_stitch")
    costs = measure_stitches(parser.parse_args(argv))
    Console().print(costs_table(costs))


if __name__ == "__main__":
    main()
