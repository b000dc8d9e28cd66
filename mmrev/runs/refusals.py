"""What a component refused, told by its place in the config.

Python's own refusal is the occasion. What a class hands on through ``**kwargs``, and
what its builder takes out of a part before (a hook's ``priority``, ``requires_grad`` of
a norm), no signature tells, so that looking for mistakes beforehand would refuse
configs that are right.
"""

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain

from mmengine.config import Config
from mmengine.registry import Registry, root

from mmrev.errors import UserError, nearest
from mmrev.runs.nodes import Node, walk_read

__all__ = ["named_refusals"]

_REFUSED = re.compile(
    r"(\S+)\(\) (?:got an unexpected keyword argument '(\w+)'|takes no arguments)"
)
_MISSING = re.compile(r"(\S+)\(\) missing \d+ required .*?arguments?: (.+)")
_UNKNOWN = re.compile(r"(\S+) is not in the (?:(\w+)::)?(.+?) registry\.")
_LIST, _KEYWORDS = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
_UNTYPED = 'must contain the key "type", but got '
# What mmengine builds of a part without a type.
_DEFAULTS = {
    "train_cfg": ("EpochBasedTrainLoop", "IterBasedTrainLoop"),
    "val_cfg": ("ValLoop",),
    "test_cfg": ("TestLoop",),
    "optim_wrapper": ("OptimWrapper",),
    "visualizer": ("Visualizer",),
}


@contextmanager
def named_refusals(cfg: Config) -> Iterator[None]:
    """Let what is built inside say in one line what the config has that it refuses.

    Args:
        cfg: The config that is built.

    Raises:
        UserError: In place of Python's or mmengine's error, if the config is at fault.
    """
    try:
        yield
    except tuple(_RULES) as error:
        text = str(error.args[0]) if error.args else ""
        for kind, rule in _RULES.items():
            if isinstance(error, kind) and (message := rule(cfg, text)):
                raise UserError(message) from error
        raise


def _argument(cfg: Config, text: str) -> str | None:
    """A constructor refused an argument that stands in the config, or misses one."""
    if found := _REFUSED.search(text):
        refusing, key = found.groups()
        # Its own arguments first, then those that another component handed on to it.
        parts = chain(_built(cfg, refusing), _handing(cfg) if key else ())
        for node, cls, valid in parts:
            for one in {key} if key else node.value.keys() - {"type"}:
                if one in node.value and one not in valid:
                    hint = nearest(one, valid) if valid else "it takes none."
                    return f"{_named(cls, node)}: unknown argument '{one}'; {hint}"
    elif found := _MISSING.search(text):
        keys = set(re.findall(r"'(\w+)'", found[2]))
        for node, cls, _ in _built(cfg, found[1]):
            if not keys & node.value.keys():
                return f"{_named(cls, node)}: the config must set {found[2]}."
    return None


def _type(cfg: Config, text: str) -> str | None:
    """The config names a type that no registry knows, or none at all."""
    if found := _UNKNOWN.match(text):
        wanted, scope, name = found.groups()
        known = set()
        for registry in _registries():
            if registry.name == name and scope in (registry.scope, None):
                known |= _known(registry)
        return f"unknown {name} type '{wanted}'; {nearest(wanted, known)}"
    for node in walk_read(cfg):
        if isinstance(node.value, str) and node.value.endswith(f"://{text}"):
            return f"{node.where}: there are no weights of the name {node.value}."
    if _UNTYPED in text:
        for node in walk_read(cfg):
            if isinstance(node.value, Mapping) and f"{_UNTYPED}{node.value}\n" in text:
                keys = ", ".join(map(str, node.value))
                return f"{node.where} of the config has no 'type' (it has: {keys})."
    return None


def _package(cfg: Config, text: str) -> str | None:
    """A component wants a package that is not installed."""
    if not re.search(r"\binstall\b|No module named", text):
        return None
    text = " ".join(text.split())
    counts = [node for node in walk_read(cfg) if node.where.endswith(".num_cp")]
    if counts and "fairscale" in text:  # which mmdet's encoders want for it
        return f"{counts[0].where}={counts[0].value}: {text}"
    return f"a component of the config cannot be built: {text}"


def _download(cfg: Config, text: str) -> str | None:
    """Weights of timm are not in the cache of huggingface.co, which is out of reach."""
    if "locate the file on the Hub" not in text:
        return None
    for node in walk_read(cfg):
        if isinstance(node.value, Mapping) and node.value.get("pretrained") is True:
            from timm import get_pretrained_cfg  # the message is of what timm called

            name = str(node.value.get("model_name"))
            known = get_pretrained_cfg(name)
            home = f"/{known.hf_hub_id}" if known else ""
            key = f"{node.where}.pretrained_cfg_overlay"
            return (
                f"{node.where}: the weights of {name} cannot be downloaded from "
                f"https://huggingface.co{home}. Get their model.safetensors elsewhere, "
                f"and add --cfg-options \"{key}={{'file': 'PATH'}}\"."
            )
    return f"{text} Or fill the cache of huggingface.co, the folder HF_HOME, elsewhere."


_RULES = {
    TypeError: _argument,
    KeyError: _type,
    ImportError: _package,
    RuntimeError: _package,
    OSError: _download,
}
"""What explains an error of a kind."""


def _built(cfg: Config, refusing: str) -> Iterator[tuple[Node, type, set[str]]]:
    """The parts of a config whose class is, or derives from, the one that refused.

    With each its class, and the arguments that this takes.
    """
    refusing = refusing.removesuffix(".__init__")
    for node, cls in _typed(cfg):
        if refusing in {base.__qualname__ for base in cls.__mro__}:
            yield node, cls, _parameters(cls)[0]


def _handing(cfg: Config) -> Iterator[tuple[Node, type, set[str]]]:
    """The parts that may hand on an argument to what they build, as `_built`."""
    for node, cls in _typed(cfg):
        valid, more = _parameters(cls)
        if more:
            yield node, cls, valid


def _typed(cfg: Config) -> Iterator[tuple[Node, type]]:
    for node in walk_read(cfg):
        if isinstance(node.value, Mapping):
            for cls in _classes(node, str(cfg.get("default_scope"))):
                yield node, cls


def _classes(node: Node, default_scope: str) -> list[type]:
    """The classes that a part may build, those of its own scope first."""
    # A frozen backbone names its own type by "of".
    kind = node.value.get("of") or node.value.get("type")
    if inspect.isclass(kind):
        return [kind]
    names = _DEFAULTS.get(node.where, ()) if kind is None else (str(kind),)
    found = []
    for scope, _, name in (name.rpartition(".") for name in names):
        places = [r for r in _registries() if name in r.module_dict]
        places.sort(key=lambda r, own=scope or default_scope: r.scope != own)
        found += [place.module_dict[name] for place in places]
    return [one for one in found if inspect.isclass(one)]


def _registries() -> Iterator[Registry]:
    """Every registry of mmengine, with the toolboxes' below each."""
    waiting = [one for one in vars(root).values() if isinstance(one, Registry)]
    while waiting:
        registry = waiting.pop()
        yield registry
        waiting += registry.children.values()


def _known(registry: Registry) -> set[str]:
    """What a registry finds: its own and its ancestors' names, and scoped ones."""
    known = set(registry.module_dict)
    while registry.parent is not None:
        registry = registry.parent
        known |= set(registry.module_dict)
    for scope, child in registry.children.items():
        known |= {f"{scope}.{name}" for name in child.module_dict}
    return known


def _parameters(cls: type) -> tuple[set[str], bool]:
    """The names that a class and its bases accept, and whether it takes others."""
    names = set()
    for base in cls.__mro__:
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        names |= {p.name for p in parameters if p.kind not in (_LIST, _KEYWORDS)}
        if all(p.kind != _KEYWORDS for p in parameters):
            return names, False
    return names, bool(names)


def _named(cls: type, node: Node) -> str:
    """The component's name with the one that contains it."""
    if node.outer is None:
        return cls.__name__
    kind = node.outer["type"]
    outer = kind.__name__ if inspect.isclass(kind) else str(kind).rpartition(".")[2]
    return f"{cls.__name__} (in {outer})"
