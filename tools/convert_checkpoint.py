"""Convert a checkpoint to the suite's parameter names, or a run's to another file."""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import LAYOUTS


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Run the tool; status 1 unless every key of the backbone is there."""
    parser = ArgumentParser(description=__doc__)
    add, layouts = parser.add_argument, ["auto", "run", *LAYOUTS]
    add("source", help="file, URL, or folder of a sharded run")
    add("target", help="file to write: .pth or .safetensors")
    add("--layout", default="auto", choices=layouts, help="run: a run's whole model")
    add("--arch", help="as 'tiny'; read off the shapes if not given")
    args = parser.parse_args(argv)
    from mmrev.checkpoints import coverage_table, is_folder, rewrite_run
    from mmrev.console import say, show
    from mmrev.leaderboard.lineage import convert_told

    if args.layout == "run" or is_folder(args.source):
        return say(rewrite_run(args.source, args.target))
    show(coverage_table(result := convert_told(**vars(args))))
    return result.check()


if __name__ == "__main__":
    main()
