"""Test a checkpoint; the record goes to the work dir, for tools/leaderboard.py."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_common_arguments, add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser, "that the checkpoint was trained with")
    add = parser.add_argument
    add("checkpoint")
    add("--tta", action="store_true", help="test-time augmentation of the config")
    add("--out", metavar="FILE.npz", help="write the predictions")
    add("--show-dir", help="write each image with its prediction")
    add("--check", action="store_true", help="fail outside the expected_results")
    add_common_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.runs.run import test  # not before: it loads torch

    test(args)


if __name__ == "__main__":
    main()
