"""Time our metrics beside pycocotools, mmdet's and mmseg's, in one run."""

import logging
from argparse import ArgumentParser

from mmrev.errors import one_line_errors


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, measure and print."""
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--images", type=int, default=1000)
    add("--detections", type=int, default=300, help="an image")
    add("--classes", type=int, default=80)
    add("--repeats", type=int, default=1, help="timed rounds of boxes")
    add("--tail", action="store_true", help="of all that a test does after the model")
    args = parser.parse_args(argv)
    from mmrev.studies import evaluation_speed, evaluation_tail  # loads torch

    logging.disable(logging.WARNING)  # the figures that the metrics log
    case = (args.images, args.detections, args.classes)
    if args.tail:
        return evaluation_tail.print_tail(*case)
    return evaluation_speed.print_evaluation_speed(*case, args.repeats)


if __name__ == "__main__":
    main()
