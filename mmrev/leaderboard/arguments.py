"""What ``tools/leaderboard.py`` asks for; standard library only."""

from argparse import ArgumentParser
from typing import get_args

from mmrev.leaderboard.tasks import Task

__all__ = ["STORE", "add_commands"]

STORE = "leaderboard"
"""Folder of records that are kept."""


def add_commands(parser: ArgumentParser) -> None:
    """What `mmrev.leaderboard.cli.run` reads."""
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    def roots(sub: ArgumentParser, name: str = "roots") -> None:
        sub.add_argument(
            name,
            nargs="*",
            metavar="DIR",
            help=f"folders or files of records; default: work_dirs and {STORE}",
        )

    def filters(sub: ArgumentParser, kind: str) -> None:
        sub.add_argument("--task", choices=get_args(Task))
        sub.add_argument("--dataset", metavar="NAME", help="for example COCO")
        sub.add_argument("--family", metavar="NAME", help="for example RevCol")
        kinds = ("measured", "published", "all")
        sub.add_argument("--kind", choices=kinds, default=kind)
        sub.add_argument(
            "--params", nargs=2, type=float, metavar=("MIN", "MAX"), help="millions"
        )

    sub = command("list", "show the table; several seeds are one row")
    roots(sub)
    filters(sub, "measured")
    sub.add_argument("--format", choices=("terminal", "markdown"), default="terminal")

    sub = command("show", "show all that a record says")
    sub.add_argument("record", help="its file, or the beginning of its id")
    roots(sub)

    sub = command("diff", "show what two records do not have in common")
    sub.add_argument("record", help="a file, or the beginning of an id")
    sub.add_argument("other")
    roots(sub)

    sub = command("add", "copy records into a store")
    sub.add_argument("files", nargs="+", metavar="FILE")
    sub.add_argument("--store", default=STORE, metavar="DIR")
    sub.add_argument(
        "--predictions",
        choices=("leave", "copy"),
        default="leave",
        help="copy: put the predictions into the store, too",
    )
    sub.add_argument("--sign", metavar="KEY", help="Ed25519 private key, PEM")

    sub = command("verify", "check every hash, and the metrics by the predictions")
    roots(sub)
    sub.add_argument(
        "--files", nargs="+", default=[], metavar="DIR", help="checkpoints, predictions"
    )
    sub.add_argument("--data-root", nargs="+", default=[], metavar="DIR")
    sub.add_argument("--public-key", metavar="KEY", help="ask for its signatures")

    sub = command("build", "write the static page")
    roots(sub)
    filters(sub, "all")
    sub.add_argument("--out", default="site", metavar="DIR")

    command("schema", "print the JSON Schema of a record")
