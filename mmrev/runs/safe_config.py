"""A config as values: its text is read, and nothing in it is run.

Reading a config of mmengine runs its file. Here the syntax tree of the file is
evaluated instead, by rules that know values alone, and what comes of it is merged by
mmengine's own functions, so that a config means the same either way. Bases of an
installed toolbox (``mmdet::...``) are part of code that is imported anyhow, and are
read by mmengine.
"""

import ast
import json
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from mmengine.config import Config, ConfigDict
from mmengine.utils import import_modules_from_strings

from mmrev.errors import UserError
from mmrev.limits import refuse_larger
from mmrev.paths import leads_out
from mmrev.registry import SCOPES, use_registered_names
from mmrev.runs.nodes import walk
from mmrev.text import printable

__all__ = ["WithoutMerges", "read_safely"]

_ACCEPTED = (
    "--safe-config accepts assignments of numbers, texts, lists, tuples, dict(...) and "
    "names from above or of _base_; look through the config, and leave the option out "
    "if you trust it"
)
_MOST_BYTES = 1_000_000
_MOST_FILES = 100
# Values, and letters of texts, of a file and of all together; and how deep they nest.
# The largest config of the suite has 900 values, 12 deep.
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_LARGEST_INTEGER = 2**63
_TOOLBOXES = ("mmdet", "mmseg", "mmpretrain")
_IMPORTS = {*SCOPES, *(f"{scope}.models" for scope in SCOPES)}
# What the packages look up in a registry, or hand to eval() where it is in none.
_LOOKED_UP = ("type", "dtype", "warp_mode")
_NAME = re.compile(rf"(({'|'.join(SCOPES)}|cv2)\.)?\w+")
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_WHAT = {
    ast.Import: "an import",
    ast.ImportFrom: "an import",
    ast.Call: "a call",
    ast.Attribute: "an attribute",
    ast.Lambda: "a function",
    ast.FunctionDef: "a function",
    ast.AsyncFunctionDef: "a function",
    ast.ClassDef: "a class",
    ast.Delete: "a deletion",
    ast.JoinedStr: "an f-string",
    ast.Name: "a name that nothing above has",
    ast.Set: "a set",
    ast.ListComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.NamedExpr: "an assignment in an expression",
}


def read_safely(path: str | Path) -> Config:
    """Read a config of anybody.

    Afterwards registries build nothing but what is registered, in this process: by
    another name of a component mmengine would import a module.

    Args:
        path: of a file of Python, JSON or YAML.

    Returns:
        What ``Config.fromfile`` gives.

    Raises:
        UserError: names file and line, what was found there and what is accepted.
    """
    settings, text = _Files().read(Path(path), ())
    use_registered_names()
    if imports := settings.get("custom_imports"):
        import_modules_from_strings(**imports)
    try:
        return Config(settings, cfg_text=text, filename=str(path))
    except KeyError as error:  # a variable with a name of the class's own
        raise UserError(f"config {path}: {error.args[0]}.") from error


class _Files:
    """Reads a config's file and its bases.

    Attributes:
        count: files read.
    """

    def __init__(self) -> None:
        self.count = 0

    def read(self, path: Path, heirs: tuple[Path, ...]) -> tuple[dict, str]:
        """A file merged into its bases, and the text of all.

        Args:
            path: of the file.
            heirs: the files that it is a base of.
        """
        path = Path(os.path.abspath(path))
        self.count += 1
        if self.count > _MOST_FILES:
            raise UserError(f"config {path}: more than {_MOST_FILES} base files.")
        if path.resolve() in heirs:
            raise UserError(f"config {path}: it is a base of itself.")
        if not path.is_file():
            raise UserError(f"config {heirs[-1]}: no such base file: {path}.")
        try:
            refuse_larger(f"config {path}", path.stat().st_size, _MOST_BYTES)
            own, text = _parsed(path), path.read_text("utf-8")
            inherited, texts = ConfigDict(), []
            for name in own.bases():
                base, base_text = self._base(path, name, (*heirs, path.resolve()))
                if twice := inherited.keys() & base.keys():
                    raise UserError(f"config {path}: two bases set '{min(twice)}'.")
                inherited.update(base)
                own.measure(dict(inherited))
                texts.append(base_text)
            # A copy, as mmengine makes one: merging takes out what it has obeyed.
            settings = own.settings(inherited)
            settings = Config._substitute_base_vars(settings, {}, inherited)
            merged = Config._merge_a_into_b(settings, inherited)
            own.measure(merged)
        except (RecursionError, MemoryError):
            raise UserError(f"config {path}: it is nested too deeply.") from None
        # Of the limits; and mmengine's, of what cannot inherit.
        except (ValueError, TypeError) as error:
            raise UserError(f"config {path}: {error!s:.300}") from error
        return merged, "\n".join([*texts, f"{path}\n{text}"])

    def _base(self, path: Path, name: str, heirs: tuple[Path, ...]) -> tuple[dict, str]:
        toolbox, external, place = name.rpartition("::")
        if not external:
            base, text = self.read(Path(path.parent, name), heirs)
            return Config._dict_to_config_dict(base), text
        if toolbox not in _TOOLBOXES or leads_out(place):
            raise UserError(
                f"config {path}: found the base {name!r:.60}; expected a file, or a "
                f"config of an installed {' or '.join(_TOOLBOXES)}."
            )
        try:
            file, scope = Config._get_cfg_path(name, str(path))
            base, text, _ = Config._file2dict(file)
        except (OSError, ImportError) as error:
            raise UserError(f"config {path}: {name}: {error}") from error
        return Config._dict_to_config_dict(base, scope), text


class _Values:
    """What a file says, of JSON or YAML.

    Args:
        path: of the file.
        content: of it.
    """

    def __init__(self, path: Path, content: Any) -> None:
        self.path = path
        self.content = content
        self.sizes: dict[int, tuple[int, int]] = {}
        self.kept: list[Any] = []

    def bases(self) -> list[str]:
        """The files that it inherits from."""
        return self._names(self.content.get("_base_", []))

    def settings(self, inherited: ConfigDict) -> dict[str, Any]:
        """Its settings without those of its bases."""
        self.measure(self.content)
        for key in self.content:
            if not str(key).isidentifier():
                self.refuse(f"the key {key!r:.60}", "expected names of variables")
        for node in walk(self.content):
            if isinstance(node.value, Mapping):
                for key, value in node.value.items():
                    self.check(key, value)
            elif not isinstance(node.value, list) and not _is_plain(node.value):
                self.refuse(f"{node.where}={node.value!r:.60}")
        return {key: own for key, own in self.content.items() if key != "_base_"}

    def refuse(
        self, found: str, accepted: str = _ACCEPTED, node: ast.AST | None = None
    ) -> NoReturn:
        """Name file and line.

        Args:
            found: what.
            accepted: in its place.
            node: where; None if that is not known.
        """
        line = f", line {node.lineno}" if node else ""
        raise UserError(f"config {self.path}{line}: found {found}; {accepted}.")

    def measure(self, value: Any, node: ast.AST | None = None) -> tuple[int, int]:
        """How many values and letters there are in a value, and how deep it is.

        What is there twice counts twice, though it be one object: whoever copies it
        makes two of it.
        """
        if isinstance(value, str):
            return 1 + len(value), 0
        if not isinstance(value, Mapping | list | tuple):
            return 1, 0
        if known := self.sizes.get(id(value)):
            return known
        inner = value
        if isinstance(value, Mapping):
            inner = [*value.keys(), *value.values()]
        parts = [self.measure(one, node) for one in inner]
        size = 1 + sum(size for size, _ in parts)
        depth = 1 + max((depth for _, depth in parts), default=0)
        if size > _MOST_VALUES or depth > _DEEPEST:
            self.refuse(
                f"{size:,} values and letters, {depth} deep",
                f"expected at most {_MOST_VALUES:,}, {_DEEPEST} deep",
                node,
            )
        self.sizes[id(value)] = size, depth
        self.kept.append(value)  # so that no other gets its id
        return size, depth

    def check(self, key: Any, value: Any, node: ast.AST | None = None) -> None:
        """Refuse what mmengine or a toolbox would run something by.

        Args:
            key: of a dict, or a variable.
            value: of it.
            node: where; None if that is not known.
        """
        # mmengine writes keys as they are between quotes into the config of a run,
        # which is a config itself.
        odd = not str(key).isprintable() or set(str(key)) & set("'\"\\")
        if not _is_plain(key) or str(key).startswith("__") or odd:
            self.refuse(f"the key {key!r:.60}", node=node)
        scopes = ", ".join(SCOPES)
        found = f"{key}={value!r:.60}"
        if key in _LOOKED_UP and isinstance(value, str) and not _NAME.fullmatch(value):
            name = f"expected a name that is registered, alone or in one of {scopes}"
            self.refuse(found, name, node)
        if key in ("_scope_", "default_scope") and value not in (None, *SCOPES):
            self.refuse(found, f"expected one of {scopes}", node)
        if key == "custom_imports" and value:
            imports = value.get("imports") if isinstance(value, Mapping) else value
            names = [imports] if isinstance(imports, str) else imports
            if not isinstance(names, list) or not set(map(str, names)) <= _IMPORTS:
                models = f"expected {scopes} or the models of one, as mmdet.models"
                self.refuse(found, models, node)

    def _names(self, stated: Any, node: ast.AST | None = None) -> list[str]:
        names = [stated] if isinstance(stated, str) else stated
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            self.refuse(f"_base_={stated!r:.60}", "expected names of files", node)
        return names


class _Statements(_Values):
    """What a file says, of Python.

    Args:
        path: of the file.
        tree: of it.
    """

    def __init__(self, path: Path, tree: ast.Module) -> None:
        super().__init__(path, tree)
        self.variables: dict[str, Any] = {}
        self.inherited = ConfigDict()
        self.made = 0

    def bases(self) -> list[str]:
        """The files that it inherits from."""
        found = [node for node in self.content.body if _target(node) == "_base_"]
        if len(found) > 1:
            self.refuse("a second _base_", "name all in one list", found[1])
        if not found:
            return []
        return self._names(self.value(found[0].value), found[0])

    def settings(self, inherited: ConfigDict) -> dict[str, Any]:
        """Its variables."""
        self.inherited = inherited
        for node in self.content.body:
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            name = _target(node)
            if name is None or name == "dict":
                self._refuse(node)
            if name == "_base_":
                continue
            value = self.value(node.value)
            self.check(name, value, node)
            self.measure(value, node)
            self.variables[name] = value
        self.measure(self.variables)
        return self.variables

    def value(self, node: ast.expr) -> Any:
        """Evaluate an expression."""
        match node:
            case ast.Name(id="_base_"):
                return self.inherited
            case ast.Name(id=name) if name in self.variables:
                return self.variables[name]
            case ast.Attribute(value=outer, attr=key):
                return self._item(node, self.value(outer), key, ConfigDict)
            case ast.Subscript(value=outer, slice=ast.Constant(value=str() as key)):
                return self._item(node, self.value(outer), key, Mapping)
            # {{_base_.name}} is a set of a set for Python.
            case ast.Set(elts=[ast.Set(elts=[ast.Attribute() as inner])]):
                return self.value(inner)
        value = self._new(node)
        if isinstance(value, str | list | tuple | dict):
            self.made += len(value)
            if self.made > _MOST_VALUES:
                self.refuse(f"more than {_MOST_VALUES:,} values and letters", node=node)
        return value

    def _new(self, node: ast.expr) -> Any:
        """Evaluate what makes a value."""
        match node:
            case ast.Constant(value=value) if _is_plain(value):
                return value
            case ast.List(elts=items):
                return self._items(items)
            case ast.Tuple(elts=items):
                return tuple(self._items(items))
            case ast.Dict(keys=keys, values=values):
                return self._dict(zip(keys, values, strict=True))
            case ast.Call(func=ast.Name(id="dict"), args=positional, keywords=named):
                pairs = [(None, one) for one in positional[:1]]
                pairs += [(one.arg, one.value) for one in named]
                if len(positional) < 2:
                    return self._dict(pairs)
            case ast.Subscript(value=outer, slice=index):
                return self._part(node, self.value(outer), index)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
                value = self.value(operand)
                if isinstance(value, int | float):
                    return -value if isinstance(sign, ast.USub) else +value
            case ast.BinOp(left=left, op=sign, right=right):
                return self._combined(node, self.value(left), sign, self.value(right))
        self._refuse(node)

    def _item(self, node: ast.expr, outer: Any, key: str, kind: type) -> Any:
        """What a dict has, by the name as mmengine lets it be looked up."""
        if not isinstance(outer, kind) or key not in outer:
            self._refuse(node)
        return outer[key]

    def _items(self, nodes: Sequence[ast.expr]) -> list:
        items = []
        for node in nodes:
            if not isinstance(node, ast.Starred):
                items.append(self.value(node))
                continue
            several = self.value(node.value)
            if not isinstance(several, list | tuple):
                self._refuse(node)
            items += several
        return items

    def _dict(self, pairs: Iterable[tuple[ast.expr | str | None, ast.expr]]) -> dict:
        found: dict = {}
        for key, value_node in pairs:
            value = self.value(value_node)
            if key is None:  # two stars before it, or dict's first argument
                if not isinstance(value, Mapping):
                    self._refuse(value_node)
                found.update(value.items())
                continue
            if isinstance(key, ast.expr):
                key = self.value(key)
            self.check(key, value, value_node)
            found[key] = value
        return found

    def _part(self, node: ast.expr, outer: Any, index: ast.expr) -> Any:
        """An item of a list, or a slice."""
        if not isinstance(outer, str | list | tuple):
            self._refuse(node)
        if isinstance(index, ast.Slice):
            parts = (index.lower, index.upper, index.step)
            bounds = [None if part is None else self.value(part) for part in parts]
            place: int | slice = slice(*bounds)
        else:
            bounds = [place := self.value(index)]
        if not all(isinstance(bound, int | None) for bound in bounds):
            self._refuse(node)
        try:
            return outer[place]
        except (IndexError, ValueError):
            self._refuse(node)

    def _combined(
        self, node: ast.expr, left: Any, sign: ast.operator, right: Any
    ) -> Any:
        """Of numbers anything but powers; sums of sequences, and repeated ones."""
        numbers = isinstance(left, int | float), isinstance(right, int | float)
        alike = type(left) is type(right) and isinstance(left, str | list | tuple)
        long = 0
        if isinstance(sign, ast.Mult) and sum(numbers) == 1:
            sequence, count = (right, left) if numbers[0] else (left, right)
            if not isinstance(sequence, str | list | tuple) or isinstance(count, float):
                self._refuse(node)
            long = len(sequence) * count
        elif isinstance(sign, ast.Add) and alike:
            long = len(left) + len(right)
        elif not all(numbers) or type(sign) not in _OPERATORS:
            self._refuse(node)
        if long > _MOST_VALUES:
            self._refuse(node)
        try:
            found = _OPERATORS[type(sign)](left, right)
        except ArithmeticError:
            self._refuse(node)
        if isinstance(found, int) and not _is_plain(found):
            self._refuse(node)
        return found

    def _refuse(self, node: ast.AST) -> NoReturn:
        if isinstance(node, ast.Expr):
            node = node.value
        what = f"{_WHAT[type(node)]}, " if type(node) in _WHAT else ""
        self.refuse(f"{what}{printable(_source(node)):.60}", node=node)


class WithoutMerges(yaml.SafeLoader):
    """A safe loader that refuses ``<<``, by which a short file becomes endless."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuse merges."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, "found a merge (<<), write it out", key.start_mark
                )


def _parsed(path: Path) -> _Values:
    content = path.read_bytes()
    try:
        if path.suffix == ".py":
            return _Statements(path, ast.parse(content.decode()))
        if path.suffix == ".json":
            found = json.loads(content)
        elif path.suffix in (".yml", ".yaml"):
            found = yaml.load(content, WithoutMerges)
        else:
            raise UserError(f"config {path}: expected a file of Python, JSON or YAML.")
    except SyntaxError as error:
        raise UserError(
            f"config {path}, line {error.lineno}: not Python ({error.msg})."
        ) from error
    except yaml.YAMLError as error:
        raise UserError(f"config {path}: {' '.join(str(error).split())}.") from error
    if not isinstance(found, dict):
        raise UserError(f"config {path}: expected a dict, got {type(found).__name__}.")
    return _Values(path, found)


def _target(node: ast.stmt) -> str | None:
    """The one variable that a statement assigns; None of any other statement."""
    match node:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
    return None


def _source(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except ValueError:  # Python's own limit of what it writes as decimals
        return "a number of thousands of digits"


def _is_plain(value: Any) -> bool:
    """Whether a value is a text without a template of mmengine's, or a usual number."""
    if isinstance(value, str):
        return "{{" not in value
    if isinstance(value, int):
        return abs(value) < _LARGEST_INTEGER
    return value is None or isinstance(value, float)
