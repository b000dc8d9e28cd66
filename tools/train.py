"""Train a detector, a segmentor or a classifier from its config."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_common_arguments, add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of mmdet, mmseg or mmpretrain")
    resumed = "continue from a checkpoint; without PATH from the work dir's newest"
    add("--resume", nargs="?", const="auto", metavar="PATH", help=resumed)
    add("--amp", action="store_true", help="mixed precision")
    add("--shard", action="store_true", help="a part of the model in each process")
    divided = "a share of the experts in each process"
    add("--expert-parallel", action="store_true", help=divided)
    add("--auto-scale-lr", action="store_true", help="fit the lr to the batch size")
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.runs.run import train  # not before: it loads torch

    train(args)


if __name__ == "__main__":
    main()
