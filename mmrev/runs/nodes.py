"""Walking a config: every value with its place and the component around it."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

__all__ = ["TOP_LEVEL", "Node", "components", "custom_hooks", "walk", "walk_read"]

TOP_LEVEL = {
    *inspect.signature(Runner.__init__).parameters,
    *("compile", "custom_imports", "find_unused_parameters", "model_wrapper_cfg"),
    *("absent_classes", "head_memory", "other_sizes", "runner_type", "skip_steps"),
    *("strategy", "sync_bn", "track", "tta_model", "tta_pipeline"),
    "unreadable_images",
} - {"self", "cfg"}
"""What may stand at the top of a config and is read by somebody."""


@dataclass(frozen=True)
class Node:
    """A value of a config.

    Attributes:
        where: its keys and indices, joined by dots; empty for the whole.
        value: itself.
        outer: the nearest part around it that has a ``type``, None if none has.
    """

    where: str
    value: Any
    outer: Mapping | None


def walk(value: Any, where: str = "", outer: Mapping | None = None) -> Iterator[Node]:
    """Everything in a config or a part of one, outer values before inner ones."""
    yield Node(where, value, outer)
    if isinstance(value, Mapping):
        outer = value if "type" in value else outer
        children = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    else:
        return
    for key, child in children:
        yield from walk(child, f"{where}.{key}" if where else str(key), outer)


def walk_read(cfg: Config) -> Iterator[Node]:
    """What somebody reads of a config: all but the variables of its files."""
    for key in cfg:
        if key in TOP_LEVEL:
            yield from walk(cfg[key], key)


def components(model: Mapping, cls: type) -> Iterator[ConfigDict]:
    """The parts of a model's config that build a class of this suite, or subclasses."""
    for node in walk(model):
        name = str(node.value.get("type")) if isinstance(node.value, Mapping) else ""
        found = MODELS.get(name) if name.startswith("mmrev.") else None
        if found is not None and issubclass(found, cls):
            yield node.value


def custom_hooks(cfg: Config, cls: type) -> Iterator[ConfigDict]:
    """The custom hooks of a config that build a class, or one derived from it."""
    for hook in cfg.get("custom_hooks") or []:
        found = HOOKS.get(str(hook.get("type")))
        if found is not None and issubclass(found, cls):
            yield hook
