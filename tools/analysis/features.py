"""Analyse a backbone's features: CKA with image and label, receptive fields, sizes.

Example: python tools/analysis/features.py CONFIG CHECKPOINT --plot features.pdf
"""

from argparse import ArgumentParser

from mmrev.errors import one_line_errors
from mmrev.runs.arguments import add_config_arguments
from mmrev.studies.features.arguments import add_arguments


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """Parse, analyse and print."""
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    add_config_arguments(parser, "of mmdet, mmseg or mmpretrain")
    add_arguments(parser)
    args = parser.parse_args(argv)
    from mmrev.studies.features.run import analyse_features  # loads torch

    analyse_features(args)


if __name__ == "__main__":
    main()
