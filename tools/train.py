"""Train a detector, a segmentor or a classifier from its config."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.run import add_common_arguments, train


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config", help="of mmdet, mmseg or mmpretrain")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="PATH",
        help="continue from a checkpoint; without PATH from the work dir's newest",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision")
    parser.add_argument(
        "--auto-scale-lr", action="store_true", help="fit the lr to the batch size"
    )
    add_common_arguments(parser)
    train(parser.parse_args(argv))


if __name__ == "__main__":
    main()
