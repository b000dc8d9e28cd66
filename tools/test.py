"""Test a checkpoint; the record goes to the work dir, for tools/leaderboard.py."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.runs.config import add_config_arguments
    from mmrev.runs.run import add_common_arguments, test

    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser, "that the checkpoint was trained with")
    add = parser.add_argument
    add("checkpoint")
    add("--tta", action="store_true", help="test-time augmentation of the config")
    add("--out", metavar="FILE.npz", help="write the predictions")
    add("--show-dir", help="write each image with its prediction")
    add("--check", action="store_true", help="fail outside the expected_results")
    add_common_arguments(parser)
    test(parser.parse_args(argv))


if __name__ == "__main__":
    main()
