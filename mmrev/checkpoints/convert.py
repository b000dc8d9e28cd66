"""State dicts of any known layout, made to fit our backbones."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor, nn

from mmrev.checkpoints import nfnet, reducenet, revcol, snnet, swin_v2, vanillanet
from mmrev.checkpoints.files import load_checkpoint_file, save_state_dict
from mmrev.checkpoints.layout import Layout
from mmrev.errors import shortened
from mmrev.registry import MODELS
from mmrev.text import printable

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        *revcol.LAYOUTS,
        *nfnet.LAYOUTS,
        *vanillanet.LAYOUTS,
        *reducenet.LAYOUTS,
        *swin_v2.LAYOUTS,
        *snnet.LAYOUTS,
    )
}

# Where checkpoints keep their weights, in the order of preference.
WRAPPERS = ("model_ema", "state_dict", "model", "state_dict_ema")
BACKBONE_PREFIX = "backbone."
# What a whole model's checkpoint holds for its training alone; a plain model does not
# miss it.
TRAINING_ONLY = ("supervision.",)
# The token of `mmrev.MaskedBackbone`, which a plain backbone does not have.
MASK_TOKEN = "mask_token"
# What dense prediction adds behind a backbone: norms of levels, stitched ones' adapters
# and pyramid. Absent from pretrained weights, it keeps its initial values.
ADDED = re.compile(r"(norms|adapters|pyramid)\..+|anchors\.\d+\.norm[0-2]\..+")


# Backbones with a coupling and those without say themselves whether weights of the
# other kind are theirs.
COUPLING = re.compile(r"(anchors\.\d+\.)?coefficients")


@dataclass
class Conversion:
    """Converted weights, and what became of every key.

    Attributes:
        layout: what they were.
        backbone: the config of the backbone they were compared with, in `convert_file`.
        state_dict: the backbone's weights under our names; the tensors are the given
            ones, but for what the layout stores in another order or shape.
        dropped: keys of heads, of what the backbone computes itself, a mask token, and
            those of `ADDED` that the target lacks.
        initial: keys of `ADDED` that the checkpoint lacks.
        unexpected: keys that are neither the backbone's nor a head's.
        missing: other keys that the target has and the checkpoint lacks.
        mismatched: keys of another shape than the target's, both shapes named.

    ``initial``, the last two, and the others in full, are known after `compare`.
    """

    layout: Layout
    backbone: dict = field(default_factory=dict)
    state_dict: dict[str, Tensor] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    initial: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)

    def compare(self, target: Mapping[str, Tensor]) -> "Conversion":
        """Fill in how the weights fit a backbone's state dict; return self."""
        for key in target:
            if key not in self.state_dict and not COUPLING.fullmatch(key):
                (self.initial if ADDED.fullmatch(key) else self.missing).append(key)
        for key, value in list(self.state_dict.items()):
            if COUPLING.fullmatch(key):
                continue
            if key not in target and ADDED.fullmatch(key):
                self.dropped.append(key)
                del self.state_dict[key]
            elif key not in target:
                self.unexpected.append(key)
            elif value.shape != target[key].shape:
                self.mismatched.append(
                    f"{key} {tuple(value.shape)}, expected {tuple(target[key].shape)}"
                )
        return self

    def check(self) -> "Conversion":
        """Return self if nothing is missing, unexpected or of another shape.

        Raises:
            ValueError: naming the keys.
        """
        problems = [
            f"{len(keys)} {kind} ({shortened(keys)})"
            for kind, keys in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("of another shape", self.mismatched),
            )
            if keys
        ]
        if problems:
            raise ValueError(
                f"Checkpoint of layout {self.layout.name!r} does not fit: expected "
                f"exactly the backbone's keys, got {'; '.join(problems)}. Choose the "
                "architecture it was trained with."
            )
        return self


def convert(checkpoint: Mapping, layout: str = "auto", name: str = "") -> Conversion:
    """Convert a checkpoint and account for every key.

    Args:
        checkpoint: a state dict, or what holds one under one of `WRAPPERS`; of a
            backbone, or of a whole model with its backbone under ``backbone.``.
        layout: a name of `LAYOUTS`, or 'auto' to recognise it.
        name: of the file, which may tell what the weights do not.

    Returns:
        The conversion, not yet compared with a backbone.

    Raises:
        ValueError: if the layout is unknown, not recognised or ambiguous, or a value
            is no tensor.
    """
    weights = unwrap_state_dict(checkpoint)
    own = {
        key.removeprefix(BACKBONE_PREFIX): value
        for key, value in weights.items()
        if key.startswith(BACKBONE_PREFIX)
    }
    dropped = [key for key in weights if own and not key.startswith(BACKBONE_PREFIX)]
    own = own or weights
    result = Conversion(_select(layout, own), dropped=dropped)
    for key, value in own.items():
        if (renamed := result.layout.rename(key)) is not None:
            result.state_dict[renamed] = value
        elif key == MASK_TOKEN or result.layout.leaves_out(key):
            result.dropped.append(key)
        else:
            result.unexpected.append(key)
    adapted = result.layout.adapt(result.state_dict, own)
    result.state_dict = {**result.layout.from_name(name), **adapted}
    return result


def convert_state_dict(checkpoint: Mapping, layout: str = "auto") -> dict[str, Tensor]:
    """Convert a checkpoint to what its backbone of this suite loads strictly.

    Args:
        checkpoint: as of `convert`.
        layout: as of `convert`.

    Returns:
        The backbone's weights under our names, heads dropped.

    Raises:
        ValueError: as `convert`, and on keys that are neither the backbone's nor a
            head's.
    """
    return convert(checkpoint, layout).check().state_dict


def unwrap_state_dict(checkpoint: Mapping) -> dict[str, Tensor]:
    """The weights in a checkpoint, without the wrapping of trainers.

    Args:
        checkpoint: as read from a file: the weights, or what holds them under one of
            `WRAPPERS` (the first there is); keys with or without the
            ``module.`` of data-parallel wrappers.

    Returns:
        Tensors by name.

    Raises:
        ValueError: if a value is no tensor.
    """
    while inner := [v for k in WRAPPERS if isinstance(v := checkpoint.get(k), Mapping)]:
        checkpoint = inner[0]
    if others := [k for k, v in checkpoint.items() if not isinstance(v, Tensor)]:
        raise ValueError(
            "Checkpoint: expected tensors by name, or these under "
            f"{shortened(WRAPPERS)}, got other values for {shortened(others)}. Give "
            "the weights alone."
        )
    while checkpoint and all(key.startswith("module.") for key in checkpoint):
        checkpoint = {k.removeprefix("module."): v for k, v in checkpoint.items()}
    return dict(checkpoint)


def layout_of(checkpoint: Mapping) -> str | None:
    """The name of the layout of a checkpoint; None where none or several fit.

    Args:
        checkpoint: as of `convert`.
    """
    try:
        weights = unwrap_state_dict(checkpoint)
    except ValueError:
        return None
    keys = {key.removeprefix(BACKBONE_PREFIX) for key in weights}
    found = [layout.name for layout in LAYOUTS.values() if layout.matches(keys)]
    return found[0] if len(found) == 1 else None


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Load a checkpoint file of any known layout into a backbone, strictly.

    Args:
        backbone: receives the weights; what is `ADDED` keeps its values where the file
            has none, and the file's is left where the backbone has none.
        path: as of `load_checkpoint_file`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `load_checkpoint_file` and `convert`, and if a key is missing,
            unexpected or of another shape.
    """
    target = backbone.state_dict()
    result = convert(load_checkpoint_file(path), name=str(path))
    if result.layout.computed:
        raise ValueError(
            f"Checkpoint {path}: layout {result.layout.name!r} must be converted to a "
            "file first. Use tools/convert_checkpoint.py."
        )
    result.compare(target)
    # The backbone itself adapts what it can, as smaller kernels, or refuses.
    result.mismatched.clear()
    result.check()
    try:
        initial = {key: target[key] for key in result.initial}
        backbone.load_state_dict(initial | result.state_dict)
    except RuntimeError as error:
        raise ValueError(f"Checkpoint {path}: {error}") from None


def convert_file(
    source: str | Path,
    target: str | Path,
    layout: str = "auto",
    arch: str | None = None,
    meta: Mapping | None = None,
) -> Conversion:
    """Convert a checkpoint file to our layout, if it fits its backbone exactly.

    Args:
        source: as of `load_checkpoint_file`.
        target: as of `save_state_dict`; must not exist. Not written unless all fits.
        layout: as of `convert`.
        arch: the backbone's architecture by name; read off the shapes if None.
        meta: as of `save_state_dict`.

    Returns:
        The conversion, compared with the backbone, for the caller to `check`.

    Raises:
        FileExistsError: if the target exists.
        FileNotFoundError: if the source does not.
        ValueError: as `load_checkpoint_file` and `convert`, and if the architecture
            cannot be told.
    """
    if Path(target).exists():
        raise FileExistsError(f"{target} exists already. Remove it or name another.")
    result = convert(load_checkpoint_file(source), layout, str(source))
    try:
        result.backbone = result.layout.backbone(result.state_dict)
    except KeyError as error:
        raise ValueError(
            f"{source}: its architecture cannot be told without the key {error}. "
            "The file is incomplete; get it again."
        ) from None
    if arch and "arch" not in result.backbone:
        raise ValueError(
            f"{source}: the layout {result.layout.name!r} has no architectures by "
            f"name, got {arch!r}. Leave it out; the shapes tell."
        )
    if arch:
        result.backbone["arch"] = arch
    # What a backbone computes needs memory; all else needs its shape only.
    with torch.device("cpu" if result.layout.computed else "meta"):
        fitting = MODELS.build(result.backbone).state_dict()
    for key in fitting:
        if any(re.fullmatch(pattern, key) for pattern in result.layout.computed):
            result.state_dict[key] = fitting[key]
    result.compare(fitting)
    if not (result.missing or result.unexpected or result.mismatched):
        save_state_dict(result.state_dict, target, meta)
    return result


def _select(name: str, keys: Iterable[str]) -> Layout:
    if name != "auto":
        if name not in LAYOUTS:
            raise ValueError(
                f"Checkpoint: layout must be 'auto' or one of {shortened(LAYOUTS)}, "
                f"got {name!r}."
            )
        return LAYOUTS[name]
    found = [layout for layout in LAYOUTS.values() if layout.matches(keys)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            "Checkpoint: the layout is ambiguous, its keys match "
            f"{shortened(layout.name for layout in found)}. Choose one with layout=."
        )
    raise ValueError(
        f"Checkpoint: expected keys of one of the layouts {shortened(LAYOUTS)}, got "
        f"{shortened(keys)}. If it is one of these, choose it with layout=."
    )


def coverage_table(result: Conversion) -> Table:
    """A table of what became of every key, to be printed by rich."""
    table = Table(title=f"layout {result.layout.name}: {result.backbone}")
    table.add_column("keys")
    table.add_column("number", justify="right")
    table.add_column("which", overflow="fold")
    missed = {*result.unexpected, *(line.split()[0] for line in result.mismatched)}
    used = [key for key in result.state_dict if key not in missed]
    for kind, keys in (
        ("used", used),
        ("dropped", result.dropped),
        ("left as initialised", result.initial),
        ("missing", result.missing),
        ("unexpected", result.unexpected),
        ("of another shape", result.mismatched),
    ):
        table.add_row(kind, str(len(keys)), Text(printable(shortened(keys))))
    return table
