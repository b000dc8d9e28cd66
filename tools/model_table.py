"""Print parameters and FLOPs of every backbone beside the published figures."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, count and print."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="", help="only backbones so named")
    args = parser.parse_args(argv)
    from mmrev.console import show
    from mmrev.studies.model_table import model_table  # not before: it loads torch
    from mmrev.studies.published import ROWS

    rows = [row for row in ROWS if args.family.lower() in row.model.lower()]
    if not rows:
        parser.error(f"no backbone is called {args.family!r}.")
    show(model_table(rows))


if __name__ == "__main__":
    main()
