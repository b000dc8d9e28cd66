"""Time our backbones beside the implementations that people use, in one run.

Example: python tools/analysis/speed.py swinv2-t-w16-512px nfnet-f0-256px
"""

import logging
from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="of the comparisons; default: all")
    args = parser.parse_args(argv)
    # Not before: it loads torch.
    from mmrev.studies.reference_speed import COMPARISONS, print_speeds

    if unknown := [name for name in args.names if name not in COMPARISONS]:
        names = ", ".join(COMPARISONS)
        parser.error(f"expected names of {names}, got {unknown[0]}.")
    logging.disable(logging.INFO)  # what timm's wrapper says of every model
    print_speeds(args.names or list(COMPARISONS))


if __name__ == "__main__":
    main()
