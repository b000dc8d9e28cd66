"""Tracks beside each other, and how alike they rank models."""

from itertools import permutations

import pytest
from make_records import measured
from site_records import on_tracks, synthetic

from mmrev.leaderboard.groups import grouped
from mmrev.leaderboard.site import build
from mmrev.leaderboard.site.tracks import boards, correlations
from mmrev.leaderboard.table import markdown, terminal

DINO = ("DINO", "12 epochs", "dino-4scale")


def found():
    return boards(grouped(on_tracks()))


def told(column):
    return column.head, column.length, column.method, column.track


def test_tracks_of_a_test_stand_beside_each_other():
    ade, coco = found()
    assert (ade.title, coco.title) == ("ADE20K val2017, mIoU", "COCO val2017, box AP")
    assert [told(column) for column in coco.columns] == [
        (*DINO, track) for track in ("frozen", "tuned", "scratch")
    ]
    names = [name for name, _ in coco.rows]
    assert names == [f"{f}-{s}" for f in ("RevCol", "Swin-V2") for s in "TSB"]
    frozen, tuned, scratch = map(coco.of, coco.columns)
    assert tuned["RevCol-T", "revcol-t_in1k.pth"] == pytest.approx(46)
    assert list(frozen) == list(tuned) == list(coco.rows)
    # In the rows of what started from weights, where there is something to start.
    assert scratch["RevCol-T", "revcol-t_in1k.pth"] == pytest.approx(30)
    assert len(scratch) == 4


def concordance(x, y):
    """Kendall's tau of figures without ties, by its definition."""
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    return sum(1 if (x[i] - x[j]) * (y[i] - y[j]) > 0 else -1 for i, j in pairs) / len(
        pairs
    )


def test_rank_correlations_are_exact():
    pairs = correlations(found())
    assert len(pairs) == 6
    pair = next(p for p in pairs if told(p["one"][1])[-1] == told(p["other"][1])[-1])
    frozen, linear = [36, 38, 40, 42, 44, 46], [30, 33, 35, 34, 40, 38]
    tau = concordance(linear, frozen)
    assert pair["models"] == 6 and pair["tau"] == pytest.approx(tau)
    orders = [concordance(one, frozen) for one in permutations(linear)]
    alike = sum(abs(one) > abs(tau) - 1e-9 for one in orders) / len(orders)
    assert pair["p"] == pytest.approx(alike)
    # 1 - 6 sum d^2 / (n (n^2 - 1)), ranks 1 2 4 3 6 5.
    assert pair["rho"] == pytest.approx(1 - 6 * 4 / (6 * 35))
    assert sorted({one["models"] for one in pairs}) == [4, 6]


def test_three_models_tell_nothing():
    few = [one for one in on_tracks() if one.model.name.endswith(("T", "l-S"))]
    assert correlations(boards(grouped(few))) == []


def test_one_track_alone_is_no_comparison(tmp_path):
    tuned = [one for one in on_tracks() if one.training.track == "tuned"]
    assert boards(grouped([*tuned, *synthetic(6)])) == []
    build(tuned, tmp_path / "site")
    text = (tmp_path / "site/tracks.html").read_text()
    assert "less than two tracks" in text and "alike" not in text


def test_what_is_not_comparable_is_left_out():
    config = {"name": "revcol-t_dino-4scale_8xb2-12e_coco", "tta": True}
    others = [
        measured(config=config, training={"track": "tuned"}),
        measured(training={"track": "tuned"}, metrics={"coco/bbox_mAP": None}),
        measured(
            training={"track": "tuned"},
            dataset={"images_evaluated": 3, "images_unreadable": 1},
        ),
    ]
    rows = [len(board.rows) for board in found()]
    assert [len(b.rows) for b in boards(grouped([*on_tracks(), *others]))] == rows


def test_several_starts_of_a_model_are_not_ranked_as_models():
    again = [
        one.model_copy(
            update={"training": one.training.model_copy(update={"pretraining": ["b"]})}
        )
        for one in on_tracks()
        if one.model.name == "RevCol-T" and one.training.track == "tuned"
    ]
    again = [
        one.model_copy(
            update={
                "config": one.config.model_copy(update={"resolved": {"other": 1}}),
                "id": f"{number:064x}",
            }
        )
        for number, one in enumerate(again)
    ]
    both = boards(grouped([*on_tracks(), *again]))
    assert ("RevCol-T", "b") in both[1].rows
    # Without that model three are left that were trained from scratch.
    assert {one["models"] for one in correlations(both)} == {5, 6}


def test_page_and_table_show_them(tmp_path):
    build(on_tracks(), tmp_path / "site")
    text = (tmp_path / "site/tracks.html").read_text()
    assert text.count("<tr>") == 2 + 12 + 1 + 6
    assert "DINO, 12 epochs, frozen" in text and "0.017" in text
    lines = markdown(on_tracks()).splitlines()
    assert "| track |" in lines[0]
    assert sum("| frozen |" in line for line in lines) == 12
    table = terminal(on_tracks(), width=None)
    assert "track" in [column.header for column in table.columns]
    tuned = [one for one in on_tracks() if one.training.track == "tuned"]
    table = terminal(tuned, width=None)
    assert "track" not in [column.header for column in table.columns]


def test_names_of_others_stay_texts(tmp_path):
    name = "<img src=x onerror=pwned()>"
    records = [
        measured(
            training={"track": track, "pretraining": [name]},
            model={"name": name, "head": name},
            config={"name": f"a_{name}", "resolved": {"track": track}},
            checkpoint={"sha256": f"{number:064x}"},
            dataset={"name": name},
        )
        for number, track in enumerate(("frozen", "tuned"))
    ]
    build(records, tmp_path / "site")
    text = (tmp_path / "site/tracks.html").read_text()
    assert "<img" not in text and text.count("&lt;img src=x") >= 6
