"""What several tools ask for.

Standard library only: ``--help`` and a mistyped argument do not wait for torch.
"""

from argparse import Action, ArgumentParser, Namespace
from collections.abc import Sequence

from mmrev.errors import UserError
from mmrev.runs.values import read_value

__all__ = [
    "LAYOUTS",
    "OverrideAction",
    "add_common_arguments",
    "add_config_arguments",
    "add_override_arguments",
    "add_safe_argument",
]

LAYOUTS = (
    *("revcol", "mmrev.RevCol", "mmrev.RevColV2", "timm.dm_nfnet", "mmrev.NFNet"),
    *("vanillanet", "vanillanet-deploy", "mmrev.VanillaNet", "mmrev.ReduceNet"),
    *("swin_v2", "swin_v2.simmim", "timm.swinv2", "mmpretrain.SwinTransformerV2"),
    *("mmrev.SwinTransformerV2", "snnet.deit", "snnet.swin", "snnet.resnet"),
    *("snnet.levit", "snnetv2", "mmrev.StitchedBackbone"),
)
"""Names of `mmrev.checkpoints.LAYOUTS`."""


def add_config_arguments(parser: ArgumentParser, text: str) -> None:
    """Add the config, and how it is read.

    Args:
        parser: of a tool.
        text: what the tool's help says of the config.
    """
    parser.add_argument("config", help=text)
    add_safe_argument(parser)


def add_safe_argument(parser: ArgumentParser) -> None:
    """Add whether a config is to be read without running it."""
    parser.add_argument(
        "--safe-config",
        action="store_true",
        help="of others: take values alone from it, run nothing, refuse the rest",
    )


def add_override_arguments(parser: ArgumentParser) -> None:
    """Add what changes the config: ``cfg_options``, value by dotted key, or None."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverrideAction,
        metavar="KEY=VALUE",
        help="override the config, for example model.backbone.drop_path_rate=0.2",
    )


def add_common_arguments(parser: ArgumentParser) -> None:
    """Add what training and testing share, beside the config."""
    parser.add_argument("--work-dir", help="default: work_dirs/<name of the config>")
    add_override_arguments(parser)
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what started the processes of a distributed run",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits in every run on one machine; slower on a GPU",
    )


class OverrideAction(Action):
    """Adds what one use of the option gives to what earlier ones gave."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        """Parse.

        Raises:
            UserError: One is not ``KEY=VALUE``, or its value cannot be read.
        """
        found = dict(getattr(namespace, self.dest) or {})
        for text in values:
            try:
                key, value = text.split("=", 1)
                found[key] = read_value(value)
            except ValueError:
                raise UserError(
                    f"{option_string}: expected KEY=VALUE with balanced brackets, got "
                    f"{text}."
                ) from None
        setattr(namespace, self.dest, found)
