"""Train and test every cell of a suite; repeated, do what is left of it."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Parse and run; 1 if a cell failed."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("suite", metavar="SUITE.yaml", help="see configs/suites/")
    add("--only", nargs="+", default=[], metavar="GLOB", help="of names of configs")
    add("--jobs", type=int, metavar="N", help="at once; default: one for each GPU")
    add("--slurm", action="store_true", help="submit to Slurm, as the suite says")
    text = "tell what is left, and its price as far as MINUTES (10) suffice"
    add("--dry-run", nargs="?", type=float, const=10, metavar="MINUTES", help=text)
    add("--tflops", type=float, help="of a GPU: hours by operations, for --dry-run")
    add("--safe-config", action="store_true", help="as of tools/train.py")
    args = parser.parse_args(argv)
    from mmrev.sweep.sweep import sweep  # not before: it loads torch

    return sweep(args)


if __name__ == "__main__":
    raise SystemExit(main())
