"""Suites as files, and what is said of mistakes in them."""

from pathlib import Path

import pytest

from mmrev.errors import UserError
from mmrev.sweep.suite import choices_of, read_suite

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "configs/suites").glob("*.yaml"))
GOOD = """\
name: small
seeds: [0, 1]
matrix:
  backbone: [a, b]
runs:
  crops: {config: "{backbone}_crops.py", test: false}
  dino: {config: "{backbone}_dino.py", start: crops}
"""


def written(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def configs_of(suite):
    return [
        run.config.format(**values)
        for run in suite.runs.values()
        for values in choices_of(suite, run)
    ]


def test_a_suite_is_every_choice_of_what_its_configs_name(tmp_path):
    suite = read_suite(written(tmp_path, GOOD))
    assert configs_of(suite) == ["a_crops.py", "b_crops.py", "a_dino.py", "b_dino.py"]
    assert suite.folder == Path("work_dirs/sweep-small")


def test_a_run_may_have_values_of_its_own(tmp_path):
    text = GOOD.replace("start: crops}", "start: crops, matrix: {backbone: [18]}}")
    assert configs_of(read_suite(written(tmp_path, text)))[2:] == ["18_dino.py"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds:", "seed:", "unknown key 'seed'; did you mean 'seeds'"),
        ("test: false", "tests: false", "unknown key 'runs.crops.tests'; did you mean"),
        ("name: small\n", "", "'name' is missing"),
        ("[0, 1]", "[0, one]", r"seeds\[1\]: Input should be a valid integer, got 'on"),
        ("[0, 1]", "[0, 0]", "seeds: expected each once, got 0 twice"),
        ("[0, 1]", "[]", "seeds: List should have at least 1 item"),
        ("[0, 1]", "[-1]", "seeds.0.: Input should be greater than or equal to 0"),
        ("[0, 1]", "[true]", "seeds.0.: Input should be a valid integer, got True"),
        ("[a, b]", "[]", "matrix.backbone: List should have at least 1 item"),
        ("[a, b]", "[a, a]", "matrix.backbone: expected each once, got 'a' twice"),
        ("{backbone}_dino", "{bakbone}_dino", "no axis 'bakbone'.*mean 'backbone'"),
        ("{backbone}_dino", "{backbone_dino", "runs.dino.config: "),
        ("[a, b]", "[a, b]\n  data: [x]", "matrix.data: no config names {data}; rem"),
        ("start: crops", "start: crop", "runs.dino.start: no run 'crop'; did you mean"),
        ("start: crops", "start: dino", "start from each other: dino <- dino"),
        ("test: false", "start: dino", "start from each other: crops <- dino <- crops"),
        (", start: crops", "", "runs.crops: nothing starts from it and it is not test"),
        ("test: false", "test: 1", "runs.crops.test: Input should be a valid boolean"),
        (
            "start: crops",
            "start: crops, train_args: [--fast]",
            "'--amp', '--auto-scale-lr' or",
        ),
        ("name: small", "name: ../x", "name: String should match pattern"),
        (GOOD, "runs: {}\nname: a\nseeds: [1]", "runs: Dictionary should have at leas"),
        (GOOD, "- a", "expected keys and values, got list"),
        (GOOD, "", "expected keys and values, got NoneType"),
        (GOOD, "a: [", "not YAML: "),
        (GOOD, "\x00", "not YAML: "),
        ("seeds", "name: b\nseeds", "key 'name' twice in the part at line 1"),
        ("  dino:", "  crops:", "key 'crops' twice in the part at line 6"),
        ("seeds", "<<: {name: b}\nseeds", r"a merge \(<<\), write it out.*line 2"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, message):
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        read_suite(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    written(tmp_path, GOOD)
    with pytest.raises(UserError, match=r"No such file.*did you mean 'suite.yaml'"):
        read_suite(tmp_path / "suit.yaml")


def test_a_file_too_large_for_a_suite(tmp_path):
    with pytest.raises(UserError, match=r"suite.yaml: expected at most 1,000,000"):
        read_suite(written(tmp_path, GOOD + "# " + "x" * 1_000_000))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_config_of_our_suites_is_there_and_no_run_twice(path):
    suite = read_suite(path)
    configs = configs_of(suite)
    runs = [
        (run.config.format(**values), run.start, repr(run.options))
        for run in suite.runs.values()
        for values in choices_of(suite, run)
    ]
    assert len(runs) == len(set(runs))
    assert [config for config in configs if not (ROOT / config).is_file()] == []


def test_the_full_suite_has_every_config_of_standard_data():
    leaves = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob("configs/*/*.py")
        if path.parent.name not in ("_base_", "demo")
    }
    assert set(configs_of(read_suite(ROOT / "configs/suites/full.yaml"))) == leaves
