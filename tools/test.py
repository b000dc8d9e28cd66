"""Test a checkpoint; the record goes to the work dir, for tools/leaderboard.py."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and run."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.runs.run import add_common_arguments, test

    parser = ArgumentParser(description=__doc__)
    parser.add_argument("config", help="that the checkpoint was trained with")
    parser.add_argument("checkpoint")
    parser.add_argument(
        "--tta", action="store_true", help="test-time augmentation of the config"
    )
    parser.add_argument("--out", metavar="FILE.npz", help="write the predictions")
    parser.add_argument("--show-dir", help="write each image with its prediction")
    parser.add_argument(
        "--check", action="store_true", help="fail outside the expected_results"
    )
    add_common_arguments(parser)
    test(parser.parse_args(argv))


if __name__ == "__main__":
    main()
