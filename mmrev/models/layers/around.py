"""Modules around another one whose weights keep the names they have without."""

from typing import Any

from torch import nn

INNER = "model."
"""What the names of the inner module's weights begin with in memory."""


def keep_names(module: nn.Module) -> None:
    """Let the state dict of a module have the keys of its ``model`` as if alone.

    Checkpoints then fit with and without what is around it.

    Args:
        module: whose attribute ``model`` is the inner module; changed in place.
    """
    module.register_state_dict_post_hook(_strip_inner)
    module.register_load_state_dict_pre_hook(_restore_inner)


def _strip_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Give the inner module's keys the names they have without the outer one."""
    inner = prefix + INNER
    for key in [key for key in state_dict if key.startswith(inner)]:
        state_dict[prefix + key.removeprefix(inner)] = state_dict.pop(key)
    # Versions of modules, by which some adapt old weights: readable under both names.
    versions = state_dict._metadata
    for key in [key for key in versions if key.startswith(inner)]:
        versions[prefix + key.removeprefix(inner)] = versions[key]


def _restore_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Undo `_strip_inner` before loading."""
    own = [f"{prefix}{name}." for name, _ in module.named_children() if name != "model"]
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if not key.startswith(tuple(own)):
            state_dict[prefix + INNER + key.removeprefix(prefix)] = state_dict.pop(key)
