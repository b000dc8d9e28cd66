"""Fuse a trained VanillaNet or ReduceNet, in any model; write checkpoint and config."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, deploy and report."""
    parser = ArgumentParser(description=__doc__)
    add_config_arguments(parser, "that the checkpoint was trained with")
    parser.add_argument("checkpoint")
    parser.add_argument("out", help=".pth to write; the config is written beside it")
    parser.add_argument("--size", type=int, default=224, help="of the test image")
    args = parser.parse_args(argv)
    from mmrev.console import show
    from mmrev.runs.deploy import deploy  # not before: it loads torch

    show(deploy(args).table())


if __name__ == "__main__":
    main()
