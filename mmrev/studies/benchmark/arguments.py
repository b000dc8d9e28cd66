"""What ``tools/benchmark.py`` asks for; standard library only."""

from argparse import ArgumentParser, BooleanOptionalAction

from mmrev.runs.arguments import OverrideAction, add_safe_argument
from mmrev.studies.memory_modes.arguments import DTYPES

__all__ = ["CHECKPOINT", "OWN", "PLAIN", "TASKS", "add_arguments"]

OWN, PLAIN = "own", "plain"
"""What is no model's name, but can be compared with."""
CHECKPOINT = "checkpoint"
"""A memory mode that is torch's: its checkpointing of each level, block or link."""
TASKS = ("forward", "train")
MEMORIES = ("store", CHECKPOINT, "recompute", "reverse")
LAYOUTS = ("contiguous", "channels_last")
COMPILED = ("eager", "compiled")


def add_arguments(parser: ArgumentParser) -> None:
    """What `run` of `mmrev.studies.benchmark.run` reads."""
    add = parser.add_argument
    what = "a config, mmrev:NAME, timm:NAME, mmpretrain:NAME; or files of --out to show"
    add("what", nargs="+", metavar="WHAT", help=what)
    add("--backbone", action="store_true", help="of a config its backbone alone")
    add_safe_argument(parser)
    options = dict(nargs="+", action=OverrideAction, metavar="KEY=VALUE")
    own = "settings of a backbone as arch=tiny, overrides of a config"
    add("--cfg-options", **options, help=own)
    other = "mmrev:, timm:, mmpretrain:NAME, a config; 'plain', the reference's "
    other += "arithmetic of RevCol; 'own', the same otherwise set, or not deployed"
    add("--against", metavar="WHAT", help=f"compared with, in turn: {other}")
    add("--against-options", **options, help="settings of what it is compared with")
    add("--deployed", action="store_true", help="VanillaNet, ReduceNet fused")
    both = "default: both; of what is deployed 'forward' alone"
    add("--task", nargs="+", choices=TASKS, help=both)
    sizes = "of images, pixels: 512 or 800x1216; default: a config's, else 224"
    add("--size", nargs="+", metavar="SIZE", help=sizes)
    add("--batch", nargs="+", type=int, default=[1], metavar="N", help="images")
    boxes = "of what a detector sees, in an image; default: 20"
    add("--boxes", nargs="+", type=int, metavar="N", help=boxes)
    add("--memory", nargs="+", choices=MEMORIES, help="modes of the backbone")
    add("--dtype", nargs="+", choices=DTYPES, default=["fp32"], help="of autocast")
    layout = "of images and weights"
    add("--layout", nargs="+", choices=LAYOUTS, default=["contiguous"], help=layout)
    add("--compile", nargs="+", choices=COMPILED, default=["eager"])
    add("--repeats", type=int, default=7, help="timed rounds")
    add("--warm-up", type=int, default=2, help="rounds before")
    peak = "of a process of its own for each measurement"
    add("--process-peak", action=BooleanOptionalAction, default=True, help=peak)
    add("--device", default="cpu")
    add("--out", metavar="FILE.json", help="figures to write")
    add("--plot", nargs="+", metavar="FILE", help="of them to write: .html, .png")
