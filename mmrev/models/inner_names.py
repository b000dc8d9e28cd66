"""Wrappers whose inner model keeps its names in a state dict."""

from typing import Any

from torch import nn

INNER = "model."


def keep_inner_names(wrapper: nn.Module) -> None:
    """Let a state dict name what is in ``wrapper.model`` as without the wrapper.

    Args:
        wrapper: its other parts keep their names, which none of the inner model's may
            begin with.
    """
    wrapper.register_state_dict_post_hook(_strip_inner)
    wrapper.register_load_state_dict_pre_hook(_restore_inner)


def _strip_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Give the inner model's keys the names they have without the wrapper."""
    inner = prefix + INNER
    for key in [key for key in state_dict if key.startswith(inner)]:
        state_dict[prefix + key.removeprefix(inner)] = state_dict.pop(key)
    # Versions of modules, by which some adapt old weights: readable under both names.
    versions = state_dict._metadata
    for key in [key for key in versions if key.startswith(inner)]:
        versions[prefix + key.removeprefix(inner)] = versions[key]


def _restore_inner(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Undo `_strip_inner` before loading."""
    own = [f"{name}." for name, _ in module.named_children() if f"{name}." != INNER]
    own += [name for name, _ in module.named_parameters(recurse=False)]
    own = tuple(prefix + name for name in own)
    for key in [key for key in state_dict if key.startswith(prefix)]:
        if not key.startswith(own):
            state_dict[prefix + INNER + key.removeprefix(prefix)] = state_dict.pop(key)
