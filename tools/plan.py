"""Predict what a config's training takes, and recommend how it fits its GPUs."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments, add_override_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and plan."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of mmdet, mmseg or mmpretrain")
    add("--gpus", type=int, required=True, help="devices")
    add("--memory", type=float, required=True, help="of each, GB (1e9)")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="of the images, pixels")
    add("--tflops", type=float, help="of a device: times by operations, not measured")
    add("--device", choices=["cpu", "cuda"], default="cpu", help="that measures")
    add_override_arguments(parser)
    add("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    from mmrev.runs.plan import plan  # not before: it loads torch

    plan(args)


if __name__ == "__main__":
    main()
