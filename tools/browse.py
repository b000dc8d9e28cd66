"""Look at ground truth and predictions, worst images first, in one page of HTML."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse and write the page."""
    # Here, so that what an import fails on is one line, too.
    from mmrev.browse.browse import browse
    from mmrev.runs.config import add_config_arguments
    from mmrev.runs.overrides import OverrideAction

    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add_config_arguments(parser, "of detection or segmentation")
    add("checkpoint", nargs="?", help="default: the ground truth alone")
    add("--images", type=int, default=200, help="evenly spread over the data set")
    add("--split", choices=["test", "train"], default="test", help="of the data")
    add("--out", metavar="FILE", help="default: browse.html in the work dir")
    add("--cfg-options", nargs="+", action=OverrideAction, metavar="KEY=VALUE")
    browse(parser.parse_args(argv))


if __name__ == "__main__":
    main()
