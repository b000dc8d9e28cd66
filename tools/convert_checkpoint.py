"""Convert a checkpoint to the suite's parameter names, and show what became of it."""

import argparse
import sys

from mmrev.checkpoints import LAYOUTS, convert_file, coverage_table
from mmrev.console import show
from mmrev.text import printable


def main() -> None:
    """Run the tool; status 1 unless every key of the backbone is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="file or URL of the checkpoint")
    parser.add_argument("target", help="file to write: .pth or .safetensors")
    parser.add_argument("--layout", default="auto", choices=["auto", *LAYOUTS])
    parser.add_argument("--arch", help="as 'tiny'; read off the shapes if not given")
    args = parser.parse_args()
    try:
        result = convert_file(args.source, args.target, args.layout, args.arch)
        show(coverage_table(result))
        result.check()
    except (ValueError, OSError) as error:
        sys.exit(printable(f"error: {error}"))


if __name__ == "__main__":
    main()
