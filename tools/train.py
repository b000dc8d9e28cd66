"""Train a detector, a segmentor or a classifier from its config."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.runs.config import add_config_arguments
    from mmrev.runs.run import add_common_arguments, train

    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of mmdet, mmseg or mmpretrain")
    resumed = "continue from a checkpoint; without PATH from the work dir's newest"
    add("--resume", nargs="?", const="auto", metavar="PATH", help=resumed)
    add("--amp", action="store_true", help="mixed precision")
    add("--shard", action="store_true", help="a part of the model in each process")
    add("--auto-scale-lr", action="store_true", help="fit the lr to the batch size")
    add_common_arguments(parser)
    train(parser.parse_args(argv))


if __name__ == "__main__":
    main()
