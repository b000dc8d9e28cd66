"""What ``tools/analysis/features.py`` asks for; standard library only."""

from argparse import ArgumentParser

from mmrev.runs.arguments import add_override_arguments

__all__ = ["add_arguments"]


def add_arguments(parser: ArgumentParser) -> None:
    """What `mmrev.studies.features.run.analyse_features` reads beside the config."""
    add = parser.add_argument
    add("checkpoint", nargs="?", help="default: initial weights")
    add("--split", choices=["test", "val", "train"], default="test", help="of the data")
    add("--images", type=int, default=512, help="of CKA and sizes, at random")
    add("--batch-size", type=int, default=32, help="of CKA, 4 or more")
    add("--field-images", type=int, default=16, help="of receptive fields; 0: none")
    add("--size", type=int, nargs=2, metavar=("H", "W"), help="bring images to, pixels")
    add("--levels", type=int, nargs="+", help="of the backbone; default: all")
    add("--seed", type=int, default=0, help="of images, signs and initial weights")
    add("--device", help="default: a GPU if there is one")
    add("--out", metavar="FILE.json", help="default: features.json in the work dir")
    add("--plot", metavar="FILE", help=".png, .svg or .pdf; default: PNG beside --out")
    add_override_arguments(parser)
