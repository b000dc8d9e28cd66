"""Time our metrics beside pycocotools, mmdet's and mmseg's, in one run.

Example: python tools/analysis/evaluation_speed.py --images 1000 --detections 300
"""

import logging
from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--detections", type=int, default=300, help="an image")
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--repeats", type=int, default=1, help="timed rounds of boxes")
    args = parser.parse_args(argv)
    # Not before: it loads torch.
    from mmrev.studies.evaluation_speed import print_evaluation_speed

    logging.disable(logging.WARNING)  # the figures that the metrics log
    print_evaluation_speed(args.images, args.detections, args.classes, args.repeats)


if __name__ == "__main__":
    main()
