"""Cells of suites over small configs: what decides them, and what they start from."""

import data_layouts
import pytest
import tiny_configs
from mmengine.config import Config

from mmrev.errors import UserError
from mmrev.leaderboard.fingerprint import config_sha256
from mmrev.runs.config import load_config
from mmrev.sweep.cells import expand, require_inputs, selected
from mmrev.sweep.suite import Suite

PRETRAINED = """
model["backbone"]["init_cfg"] = dict(type="Pretrained", checkpoint="{}")
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with a classifier, and a detector and a segmentor that start from it."""
    root = tmp_path_factory.mktemp("cells")
    tiny_configs.write_classification(root / "cls.py")
    for name, write in (
        ("det", tiny_configs.write_detection),
        ("seg", tiny_configs.write_segmentation),
    ):
        path = write(root / f"{name}.py")
        path.write_text(path.read_text() + PRETRAINED.format("theirs.pth"))
    (root / "theirs.pth").write_text("weights")
    return root


@pytest.fixture(autouse=True)
def inside(root, monkeypatch):
    monkeypatch.chdir(root)


def suite(**changes):
    runs = {
        "cls": {"config": "cls.py", "test": False},
        "det": {"config": "det.py", "start": "cls"},
        "seg": {"config": "seg.py"},
    }
    content = {"name": "tiny", "out": "out", "seeds": [0, 1], "runs": runs}
    for name, value in changes.items():
        runs[name] = {**runs[name], **value}
    return Suite.model_validate(content)


def by_name(cells):
    return {cell.name: cell for cell in cells}


def test_a_cell_starts_from_that_of_its_seed():
    cells = by_name(expand(suite()))
    assert list(cells) == [
        f"{n} seed {s}" for n in ("cls", "det", "seg") for s in (0, 1)
    ]
    detector, classifier = cells["det seed 1"], cells["cls seed 1"]
    assert detector.start is classifier
    assert classifier.checkpoint == classifier.folder / "epoch_2.pth"
    assert cells["seg seed 0"].checkpoint.name == "iter_4.pth"
    assert detector.options["model.backbone.init_cfg.checkpoint"] == str(
        classifier.checkpoint
    )
    assert detector.weights == []
    assert cells["seg seed 0"].weights == ["theirs.pth"]


def test_seeds_share_a_folder_and_settings_do_not():
    before, after = (
        by_name(expand(suite(cls=change)))
        for change in ({}, {"options": {"train_cfg.max_epochs": 1}})
    )
    assert before["cls seed 0"].folder.parent == before["cls seed 1"].folder.parent
    assert before["cls seed 1"].folder.name == "seed-1"
    # A change reaches what starts from it, and nothing else.
    changed = {name for name in before if before[name].folder != after[name].folder}
    assert changed == {f"{n} seed {s}" for n in ("cls", "det") for s in (0, 1)}


def test_what_only_says_where_and_how_changes_nothing():
    options = {"default_hooks.logger.interval": 7, "env_cfg.cudnn_benchmark": True}
    same = by_name(expand(suite(cls={"options": options})))
    assert same["det seed 0"].folder == by_name(expand(suite()))["det seed 0"].folder


def test_more_arguments_of_the_training_change_it():
    changed = by_name(expand(suite(seg={"train_args": ["--amp"]})))
    assert changed["seg seed 0"].folder != by_name(expand(suite()))["seg seed 0"].folder


def test_the_content_of_weights_decides(root):
    from mmrev.sweep.cells import _content

    before = by_name(expand(suite()))["seg seed 0"].folder
    (root / "theirs.pth").write_text("other weights")
    _content.cache_clear()
    after = by_name(expand(suite()))["seg seed 0"].folder
    (root / "theirs.pth").write_text("weights")
    _content.cache_clear()
    assert before != after


def test_the_hash_is_that_of_the_run_of_the_tools():
    """Which a record states: of the config as tools/test.py reads it."""
    cell = by_name(expand(suite()))["det seed 1"]
    read = load_config(cell.path, cell.options)
    read.work_dir = "anywhere"
    assert cell.config_sha256 == config_sha256(read.to_dict())


def test_a_whole_model_counts_before_the_weights_of_its_parts(root):
    text = (root / "det.py").read_text()
    (root / "whole.py").write_text(text + 'load_from = "whole.pth"\n')
    cell = by_name(expand(suite(det={"config": "whole.py"})))["whole seed 0"]
    assert cell.options["load_from"] == str(cell.start.checkpoint)
    assert cell.weights == ["theirs.pth"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"seg": {"config": "sag.py"}},
            "config not found: sag.py; did you mean 'seg.py'",
        ),
        (
            {"seg": {"config": "det.py", "start": "cls"}},
            "runs.det and runs.seg have the",
        ),
        (
            {"cls": {"start": "seg"}},
            "runs.cls.start: config cls.py starts from no weigh",
        ),
        (
            {"seg": {"options": {"modle.a": 1}}},
            "runs.seg: --cfg-options modle.a: .*'modle'; did you mean 'model'",
        ),
        (
            {"cls": {"config": "by_iter.py"}},
            "by_epoch=False, but train_cfg no max_iters",
        ),
        (
            {"cls": {"config": "untrained.py"}},
            "untrained.py has no train_cfg; nothing to train",
        ),
        ({"seg": {"config": "two.py", "start": "cls"}}, "two.py starts from 2 files"),
    ],
)
def test_a_mistake_is_named(root, changes, message):
    text = (root / "cls.py").read_text()
    (root / "by_iter.py").write_text(text.replace("by_epoch=True", "by_epoch=False"))
    (root / "untrained.py").write_text(text + "train_cfg = None\n")
    two = PRETRAINED.format("other.pth").replace('"backbone"', '"decode_head"')
    (root / "two.py").write_text((root / "seg.py").read_text() + two)
    with pytest.raises(UserError, match=message):
        expand(suite(**changes))


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (
            {"a": {"config": "{x}.py"}, "b": {"config": "det.py", "start": "a"}},
            "runs.a is one for each {x}, of which runs.b names none",
        ),
        (
            {
                "a": {"config": "{x}.py"},
                "b": {"config": "{x}.py", "start": "a", "matrix": {"x": ["det"]}},
            },
            "runs.b starts from runs.a, which has no x=det; add it to its matrix",
        ),
    ],
)
def test_axes_that_do_not_fit(runs, message):
    content = {"name": "a", "seeds": [0], "runs": runs, "matrix": {"x": ["cls"]}}
    with pytest.raises(UserError, match=message):
        expand(Suite.model_validate(content))


def test_some_cells_and_what_they_start_from():
    cells = expand(suite())
    assert {cell.run for cell in selected(cells, ["d*"])} == {"cls", "det"}
    assert {cell.run for cell in selected(cells, ["cls", "seg"])} == {"cls", "seg"}
    with pytest.raises(
        UserError, match=r"--only sag: fits no config.*did you mean 'seg'"
    ):
        selected(cells, ["sag"])


def test_what_is_missing_is_told_before_anything_begins(root, tmp_path, monkeypatch):
    cells = expand(suite())
    with pytest.raises(
        UserError, match=r"lacks what.*cls: data not found: data/imagen"
    ):
        require_inputs(cells)
    data_layouts.make_all(tmp_path)
    (tmp_path / "theirs.pth").write_text("")
    monkeypatch.chdir(tmp_path)
    require_inputs(cells)
    (tmp_path / "theirs.pth").unlink()
    with pytest.raises(
        UserError, match=r"seg: no weights theirs.pth. Or choose others"
    ):
        require_inputs(cells)


def test_cells_leave_the_config_alone():
    cell = expand(suite())[0]
    assert isinstance(cell.cfg, Config)
    assert cell.cfg.randomness.seed == 3
