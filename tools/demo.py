"""Train, test and rank two small models on the embedded scenes; see `make demo`."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Run what is left of the demo."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="revcol", help="see configs/demo/")
    args = parser.parse_args(argv)
    from mmrev.demo import run_demo  # not before: it takes a while

    run_demo(args.backbone)


if __name__ == "__main__":
    main()
