"""``--cfg-options``: applying them, and refusing those that nobody would read."""

import ast
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.utils import import_modules_from_strings

from mmrev.console import say
from mmrev.errors import UserError, nearest
from mmrev.runs.nodes import TOP_LEVEL, walk_read

__all__ = ["override", "warn_of_vain_assignments"]

_USED = "a variable, and changing it after it was used changes nothing"
# Keys shown of each kind in a message.
_SHOWN = 6


def override(cfg: Config, overrides: Mapping[str, Any]) -> None:
    """Change a config in place.

    Args:
        cfg: The config, as read.
        overrides: Value by dotted key.

    Raises:
        UserError: A key is misspelt, or nobody reads it any more.
    """
    for key in overrides:
        *parents, _ = parts = key.split(".")
        # A new leaf is legal: the component will tell. A new branch reaches nobody.
        node: Any = cfg._cfg_dict
        for depth, part in enumerate(parents):
            if isinstance(node, (list, tuple)) and part.isdigit():
                if int(part) >= len(node):
                    where = ".".join(parts[:depth])
                    raise UserError(
                        f"--cfg-options {key}: {where} has {len(node)} elements."
                    )
                node = node[int(part)]
            elif isinstance(node, Mapping) and part in node:
                node = node[part]
            elif depth == 0 and part in TOP_LEVEL:
                break
            else:
                valid = list(node) if isinstance(node, Mapping) else []
                where = ".".join(parts[:depth]) or "the config"
                hint = nearest(part, valid + (sorted(TOP_LEVEL) if not depth else []))
                raise UserError(f"--cfg-options {key}: {where} has no '{part}'; {hint}")
        if not parents and key not in cfg and key not in TOP_LEVEL:
            hint = nearest(key, [*cfg.keys(), *TOP_LEVEL])
            raise UserError(f"--cfg-options {key}: the config has no '{key}'; {hint}")
        if message := _in_vain(cfg, key):
            raise UserError(f"--cfg-options {key}: {message}")
    try:
        cfg.merge_from_dict(ConfigDict(overrides))
        if any(key.partition(".")[0] == "custom_imports" for key in overrides):
            # Those of the files were imported when they were read.
            import_modules_from_strings(**cfg.custom_imports)
    except (KeyError, TypeError, ImportError) as error:
        raise UserError(f"--cfg-options: {error.args[0]}") from error


def warn_of_vain_assignments(cfg: Config) -> None:
    """Tell of variables that a config sets though only its base files use them."""
    own = Path(cfg.filename).read_text(encoding="utf-8")
    bases = cfg.text.removesuffix(own)
    vain = _assigned(own) & _assigned(bases) & _used(bases)
    for name in sorted((vain & cfg.keys()) - _loaded(own) - TOP_LEVEL):
        say(
            f"config {cfg.filename}: {name} is {_USED} in base files; {_set(cfg, name)}"
        )


def _in_vain(cfg: Config, key: str) -> str | None:
    """Why a key would have no effect though the config has it; None if it has one."""
    name, _, rest = key.partition(".")
    if name == "launcher":
        return "the option --launcher decides."
    if name == "data_preprocessor" and name in (cfg.get("model") or {}):
        return f"the model has one of its own; {_set(cfg, name, rest)}"
    if name in TOP_LEVEL or name not in cfg:
        return None
    # What no file uses may be there for a hook of the user.
    if name in _used(cfg.text) or _places(cfg, name)[0]:
        return f"{name} is {_USED}; {_set(cfg, name, rest)}"
    return None


def _set(cfg: Config, name: str, rest: str = "") -> str:
    """Say which keys have the effect that changing a variable was to have."""
    named, equal = (
        [f"{place}.{rest}" if rest else place for place in places]
        for places in _places(cfg, name)
    )
    if not named and not equal:
        return "set what was made of it."
    parts = [f"set {_few(named)}"] if named else []
    if equal:
        parts.append(f"{'its value also stands at' if named else 'set'} {_few(equal)}")
    return "; ".join(parts) + "."


def _places(cfg: Config, name: str) -> tuple[list[str], list[str]]:
    """The keys that somebody reads of a name, and others of a variable's value."""
    value = cfg.get(name)
    telling = value is not None and not isinstance(value, bool)
    named, equal = [], []
    for node in walk_read(cfg):
        if node.where == name:
            continue
        if node.where.rpartition(".")[2] == name:
            named.append(node.where)
        elif telling and type(node.value) is type(value) and node.value == value:
            equal.append(node.where)
    return sorted(named), sorted(equal)


def _few(places: list[str]) -> str:
    more = len(places) - _SHOWN
    return ", ".join(places[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _assigned(text: str) -> set[str]:
    """The variables that config files set."""
    nodes = _statements(text)
    targets = (
        t for node in nodes if isinstance(node, ast.Assign) for t in node.targets
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _used(text: str) -> set[str]:
    """The variables that config files use, their own and their bases'."""
    return _loaded(text) | set(re.findall(r"_base_\.(\w+)", text))


def _loaded(text: str) -> set[str]:
    nodes = chain.from_iterable(map(ast.walk, _statements(text)))
    names = (node for node in nodes if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def _statements(text: str) -> list[ast.stmt]:
    # mmengine puts the name of each file, an absolute path, before its text.
    lines = [line for line in text.splitlines() if not Path(line).is_absolute()]
    with suppress(SyntaxError):  # JSON or YAML, which has no variables
        return ast.parse("\n".join(lines)).body
    return []
