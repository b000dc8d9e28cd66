"""Convert a checkpoint to the suite's parameter names, or a run's to another file."""

import argparse
import sys

from mmrev.checkpoints import LAYOUTS, convert_file, coverage_table, rewrite_run
from mmrev.checkpoints.folders import is_folder, merge_folder
from mmrev.console import show
from mmrev.text import printable


def main() -> None:
    """Run the tool; status 1 unless every key of the backbone is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    add, layouts = parser.add_argument, ["auto", "run", *LAYOUTS]
    add("source", help="file, URL, or folder of a sharded run")
    add("target", help="file to write: .pth or .safetensors")
    add("--layout", default="auto", choices=layouts, help="run: a run's whole model")
    add("--arch", help="as 'tiny'; read off the shapes if not given")
    args = parser.parse_args()
    try:
        if args.layout == "run":
            print(printable(rewrite_run(args.source, args.target)))
        elif is_folder(args.source):
            merge_folder(args.source, args.target)
        else:
            show(coverage_table(result := convert_file(**vars(args))))
            result.check()
    except (ValueError, OSError) as error:
        sys.exit(printable(f"error: {error}"))


if __name__ == "__main__":
    main()
