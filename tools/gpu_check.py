"""Settle on one GPU, offline and in 8 minutes, whether the suite works there.

Example: python tools/gpu_check.py --out benchmarks/h100. Without an installation:
PYTHONPATH=.:FOLDER python tools/gpu_check.py --out DIR; benchmarks/README.md shows how.
"""

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Parse and check; 1 if something is wrong on the device."""
    style = RawDescriptionHelpFormatter
    parser = ArgumentParser(description=__doc__, formatter_class=style)
    add = parser.add_argument
    add("--out", required=True, help="folder of gpu_check.json and gpu_check.md")
    add("--device", default="cuda", help="cuda, cuda:1 or cpu; default: cuda")
    add("--size", choices=("full", "tiny"), default="full", help="tiny: for a CPU")
    add("--minutes", type=float, default=8.0, help="what is left then is not run")
    add("--only", default="", help="part of the names of the checks to run")
    args = parser.parse_args(argv)
    from mmrev.studies.gpu_check import run  # not before: it takes a while

    return run(**vars(args))


if __name__ == "__main__":
    raise SystemExit(main())
