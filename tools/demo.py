"""Train, test and rank two small models on the embedded scenes; see `make demo`."""

from argparse import ArgumentParser

from mmrev.demo import run_demo
from mmrev.engine.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Run what is left of the demo."""
    ArgumentParser(description=__doc__).parse_args(argv)
    run_demo()


if __name__ == "__main__":
    main()
