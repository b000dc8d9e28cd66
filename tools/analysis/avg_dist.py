"""How far SimMIM's masks hide pixels (AvgDist), by mask ratio and patch size.

Example: python tools/analysis/avg_dist.py --plot avg_dist.pdf
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    ratios = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    add("--size", type=int, default=192, help="side of the images, pixels")
    add("--patches", type=int, nargs="+", default=[4, 8, 16, 32, 64], help="pixels")
    add("--ratios", type=float, nargs="+", default=ratios, help="share that is masked")
    add("--out", metavar="FILE.json", help="of the figures")
    add("--plot", metavar="FILE", help=".png, .svg or .pdf")
    args = parser.parse_args(argv)
    from mmrev.studies.avg_dist import show_distances  # not before: it takes a while

    show_distances(args)


if __name__ == "__main__":
    main()
