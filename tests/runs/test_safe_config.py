"""A config of anybody: what is read means what mmengine makes of it; nothing is run."""

import re
import sys
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, OPTIMIZERS
from resolved import CONFIGS, resolve

from mmrev.errors import UserError
from mmrev.runs.config import load_config
from mmrev.runs.safe_config import read_safely
from mmrev.runs.track import apply_track

ROOT = CONFIGS.parent
LEAVES = sorted(p for p in CONFIGS.glob("*/*.py") if p.parent.name != "_base_")
PROJECTS = sorted(ROOT.glob("projects/*/configs/*.py"))
ACCEPTED = "--safe-config accepts assignments of numbers, texts"


def write(folder: Path, text: str, name: str = "a.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def same(one, other) -> bool:
    """Equal, in types and the order of keys, too."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and list(one) == list(other)
            and all(same(one[key], other[key]) for key in one)
        )
    if isinstance(one, list | tuple):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(map(same, one, other))
        )
    return type(one) is type(other) and one == other


def one_of_each_head() -> list:
    """Leaves that read every base file but backbones, and slowly the others."""
    seen, found = set(), []
    for path in [*LEAVES, *PROJECTS]:
        bases = set(re.findall(r"_base_/(?!backbones)\S+\.py", path.read_text()))
        marks = [pytest.mark.slow] if bases <= seen else []
        seen |= bases
        name = path.relative_to(ROOT).as_posix()
        found.append(pytest.param(path, marks=marks, id=name))
    return found


@pytest.mark.parametrize("path", one_of_each_head())
def test_is_what_mmengine_reads(path):
    read = read_safely(path)
    apply_track(read)  # as the other has it
    assert same(read.to_dict(), resolve(path).to_dict())
    assert read.filename == str(path)


def test_so_are_the_bases_of_backbones():
    for path in CONFIGS.glob("_base_/backbones/*.py"):
        assert same(read_safely(path).to_dict(), resolve(path).to_dict()), path


LANGUAGE = """
'''Documentation.'''
_base_ = "base.py"
number = -2 + 3 * 4 // 5 - 7 / 2 % 3
word = "a" + "b" * 2
few = [*_base_.several[1:], 3, *(4, 5)]
pair = (few[0], few[-1])
several = {{_base_.several}}
other = dict(_base_.model, depth=+1, **_base_.model["head"])
model = {"type": "B", "head": {"_delete_": True, **other, "few": few}}
model_copy = model
nothing = None
"""


def test_the_language_means_what_it_does_in_python(tmp_path):
    write(
        tmp_path,
        "several = [0, 1, 2]\nmodel = dict(type='A', head=dict(width=[1.0] * 3))\n",
        "base.py",
    )
    path = write(tmp_path, LANGUAGE)
    read, expected = read_safely(path), Config.fromfile(path)
    assert same(read.to_dict(), expected.to_dict())
    assert read.text == expected.text


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.yml"])
def test_json_and_yaml(name, tmp_path):
    write(tmp_path, "model = dict(type='A', depth=3)\n", "base.py")
    path = write(
        tmp_path, '{"_base_": "base.py", "model": {"depth": 4}, "xs": [1, 2.5]}', name
    )
    assert same(read_safely(path).to_dict(), Config.fromfile(path).to_dict())


# What is written, and what the message says of it beside file and line 2.
REFUSED = {
    "import os": "an import, import os",
    "from os import path": "an import",
    "x = open('/etc/passwd')": "a call, open('/etc/passwd')",
    "x = __import__('os')": "a call",
    "x = dict(a=().__class__)": "an attribute, ().__class__",
    "x = dict.fromkeys": "a name that nothing above has, dict",
    "x = _base_.keys": "an attribute",
    "x = ''.join": "an attribute",
    "x = dict(1, 2)": "a call",
    "x = dict([('a', 1)])": "[('a', 1)]",
    "x = list((1,))": "a call",
    "x = lambda: 1": "a function",
    "def f(): pass": "a function",
    "class A: pass": "a class",
    "x = f'{1}'": "an f-string",
    "x = [i for i in (1, 2)]": "a comprehension",
    "x = {i: 1 for i in (1, 2)}": "a comprehension",
    "x = {1, 2}": "a set",
    "x = 1 if True else 2": "1 if True else 2",
    "x = 1 < 2": "1 < 2",
    "x = not True": "not True",
    "x = (y := 1)": "an assignment in an expression",
    "x = 2 ** 3": "2 ** 3",
    "x = 1 << 62": "1 << 62",
    "x = 9223372036854775807 * 9": "9223372036854775807 * 9",
    "x = 1 / 0": "1 / 0",
    "x = '%d' % 3": "'%d' % 3",
    "x = [1] * 2.0": "[1] * 2.0",
    "x = 'a' * 999999999": "'a' * 999999999",
    "x = [1][5]": "[1][5]",
    "x = [1, 2][::0]": "[1, 2][::0]",
    "x = dict(a=1)['b']": "dict(a=1)['b']",
    "x = unknown": "a name that nothing above has, unknown",
    "x = ...": "...",
    "x = b'a'": "b'a'",
    "x = 1j": "1j",
    "x = '{{$HOME:a}}'": "'{{$HOME:a}}'",
    "x = '{{ fileDirname }}'": "'{{ fileDirname }}'",
    "x, y = 1, 2": "x, y = (1, 2)",
    "x = y = 1": "x = y = 1",
    "x: int = 1": "x: int = 1",
    "x = 1; x += 1": "x += 1",
    "dict = 1": "dict = 1",
    "del x": "a deletion",
    "if True: pass": "if True",
    "print('x')": "a call",
    "__builtins__ = 1": "the key '__builtins__'",
    "x = dict(__class__=1)": "the key '__class__'",
    "x = {(1, 2): 3}": "the key (1, 2)",
    # By which the file that a run leaves of its config would be another program.
    """x = {"a': print(1), 'b": 1}""": "the key \"a': print(1), 'b\"",
    r"x = {'a\\': 1}": r"the key 'a\\'",
    r"x = {'a\nb': 1}": r"the key 'a\nb'",
    "_base_ = []": "a second _base_",
    "x = dict(type='os.system', command='id')": "type='os.system'",
    "x = dict(type='antigravity.fly')": "type='antigravity.fly'",
    "x = dict(type='o' + 's.system')": "type='os.system'",
    "x = dict(dtype='float; 1')": "dtype='float; 1'",
    "x = dict(nms=dict(type='exit(1)'))": "type='exit(1)'",
    "x = dict(_scope_='evil')": "_scope_='evil'",
    "default_scope = 'evil'": "default_scope='evil'",
    "custom_imports = dict(imports=['os'])": "custom_imports=",
    "custom_imports = dict(imports='mmdet.apis')": "custom_imports=",
    "x = 'a\x1b[31m' + 1": "'a\\x1b[31m' + 1",
}


@pytest.mark.parametrize(("line", "found"), REFUSED.items())
def test_refuses_anything_else_by_its_line(line, found, tmp_path):
    path = write(tmp_path, f"_base_ = []\n{line}\n")
    with pytest.raises(UserError) as error:
        read_safely(path)
    message = str(error.value)
    assert message.startswith(f"config {path}, line 2: found {found}")
    assert message.isprintable()


def test_what_is_refused_says_what_is_accepted(tmp_path):
    path = write(tmp_path, "import os\n")
    with pytest.raises(UserError, match=f"{ACCEPTED}.*leave the option out if you"):
        read_safely(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [\n", "line 1: not Python"),
        ("x = 1\0", "null bytes"),
        ("x = " + "[" * 150 + "]" * 150, "101 deep; expected at most"),
        ("x = " + "[" * 5000 + "]" * 5000, "not Python|nested too deeply"),
        ("x = " + "-" * 50_000 + "1", "nested too deeply"),
        ("x = " + "1+" * 100_000 + "1", "nested too deeply"),
        ("x = a" + ".a" * 100_000, "nested too deeply"),
        ("x = " + "9" * 5000, "4300 digits|not Python"),
        ("x = 0x" + "f" * 5000, "line 1: found a number of thousands of digits"),
        ("x = '" + "a" * 1_000_001 + "'", "at most 1,000,000 bytes.*MMREV_LIMITS"),
        # Ten times as many with each line, though the file is short.
        (
            "x0 = [1]\n"
            + "".join(f"x{i + 1} = [{f'x{i}, ' * 10}]\n" for i in range(20)),
            "values and letters, .* expected at most 1,000,000",
        ),
        # A large one under many names.
        (
            "x = [0] * 900000\n" + "".join(f"y{i} = x\n" for i in range(50)),
            "values and letters, .* expected at most 1,000,000",
        ),
        ("x = ['a' * 900000, 'b' * 900000]", "more than 1,000,000 values and letters"),
        ("_base_ = 'a.py'", "a base of itself"),
        ("_base_ = 'missing.py'", "no such base file"),
        ("_base_ = 3", "expected names of files"),
        ("_base_ = '/dev/zero'", "no such base file"),
        ("_base_ = 'other.txt'", "expected a file of Python, JSON or YAML"),
        ("_base_ = 'os::path.py'", "config of an installed mmdet or"),
        ("_base_ = 'mmdet::../../../../x.py'", "config of an installed mmdet or"),
        ("_base_ = 'mmdet::dino/missing.py'", "missing.py"),
        ("_base_ = ['one.py', 'one.py']", "two bases set 'x'"),
        ("_base_ = 'one.py'\nx = dict(a=1)", "_delete_=True"),
    ],
)
def test_one_line_on_whatever_a_file_holds(text, message, tmp_path):
    write(tmp_path, "", "other.txt")
    write(tmp_path, "x = 1", "one.py")
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        read_safely(path)
    assert len(str(error.value)) < 1000
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "x: !!python/object/apply:os.system [id]", "could not determine"),
        ("a.yaml", "x: [", "config .*a.yaml"),
        ("a.yaml", "x: 2020-01-01", "datetime.date"),
        ("a.yaml", "- 1", "expected a dict, got list"),
        ("a.yaml", '"a=1;b": 1', "the key 'a=1;b'; expected names of variables"),
        ("a.yaml", "x: &x [*x]", "nested too deeply"),
        # Each merge of two of the one before: 2^40 pairs.
        (
            "a.yaml",
            "x0: &x0 {a: 1}\n"
            + "".join(
                f"x{i + 1}: &x{i + 1} {{<<: [*x{i}, *x{i}]}}\n" for i in range(40)
            ),
            "found a merge .* line 2",
        ),
        ("a.yaml", "x: {type: os.system}", "type='os.system'"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"x": "{{$HOME:a}}"}', "HOME"),
        ("a.json", '{"custom_imports": {"imports": ["os"]}}', "custom_imports="),
        ("a.json", '{"x": 1e999999, "y": [1, {"__a": 2}]}', "the key '__a'"),
    ],
)
def test_json_and_yaml_are_values_alone(name, text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_safely(write(tmp_path, text, name))


def test_nothing_runs(tmp_path, monkeypatch):
    """Neither of the file nor, by a name that nobody registered, when it is built."""
    package = tmp_path / "evil"
    package.mkdir()
    write(package, "raise SystemExit('imported')", "registry.py")
    write(package, "", "__init__.py")
    write(tmp_path, "raise SystemExit('imported')", "evil_module.py")
    monkeypatch.syspath_prepend(tmp_path)
    read_safely(write(tmp_path, "model = dict(type='evil_module')\n"))
    for kind in ("evil_module", "evil.Model", "os.system", "mmdet.os.system"):
        with pytest.raises(KeyError, match="is not in the"):
            MODELS.build(dict(type=kind))
    assert not {"evil", "evil.registry", "evil_module"} & sys.modules.keys()
    assert OPTIMIZERS.get("SGD") is not None


def test_refuses_names_that_mmengine_keeps_for_itself(tmp_path):
    with pytest.raises(UserError, match="text is reserved"):
        read_safely(write(tmp_path, "text = 1\n"))


def test_is_asked_for(tmp_path):
    path = write(tmp_path, "import os\nmodel = None\n")
    with pytest.raises(UserError, match="line 1: found an import"):
        load_config(path, safe=True)
    with pytest.raises(UserError, match="'model' is missing"):
        load_config(path)
