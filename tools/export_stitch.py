"""Write one stitch of a model as a checkpoint and config without the other weights."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, export and report."""
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser, "that the checkpoint was trained with")
    parser.add_argument("checkpoint")
    parser.add_argument("stitch", type=int, help="id, as tools/stitches.py lists them")
    parser.add_argument("out", help=".pth to write; the config is written beside it")
    args = parser.parse_args(argv)
    from mmrev.operating_points.export import (
        export_stitch,
    )  # not before: it loads torch

    before, after = export_stitch(args)
    print(f"backbone: {before:,} parameters before, {after:,} after; equal in output")


if __name__ == "__main__":
    main()
