"""Seeds, noise and ranks; filters; the tables."""

from io import StringIO

import pytest
from make_records import RESOLVED, measured, published
from rich.console import Console
from scipy.stats import ttest_ind

from mmrev.console import line_width, show
from mmrev.leaderboard.groups import _chance, grouped, ranks, selected
from mmrev.leaderboard.site.entries import entry
from mmrev.leaderboard.table import differences, facts, markdown, terminal

PARTIAL = {"images_evaluated": 3, "images_unreadable": 1}


def run(ap, seed, width=1, **changes):
    """One of several trainings of a config."""
    resolved = {**RESOLVED, "width": width, "randomness": {"seed": seed}}
    return measured(
        metrics={"coco/bbox_mAP": ap},
        config={"name": f"net-{width}", "resolved": resolved},
        checkpoint={"sha256": f"{seed:032x}{width:032x}"},
        **changes,
    )


def test_seeds_of_one_config_are_a_group():
    (group,) = grouped([run(0.40, 0), run(0.42, 1), run(0.41, 2)])
    assert group.mean("coco/bbox_mAP") == pytest.approx(0.41)
    assert group.std("coco/bbox_mAP") == pytest.approx(0.01)
    # The same weights twice are no second training.
    (again,) = grouped([run(0.40, 0), run(0.41, 0, wall_time=9.0)])
    assert again.values("coco/bbox_mAP") == [0.41]
    assert again.std("coco/bbox_mAP") is None


def test_chance_is_that_of_welch():
    one, other = [0.41, 0.44, 0.40, 0.43], [0.37, 0.42]
    (better, worse) = grouped(
        run(ap, seed, width)
        for width, values in ((1, one), (2, other))
        for seed, ap in enumerate(values)
    )
    metric = "coco/bbox_mAP"
    spreads = better.std(metric), worse.std(metric)
    found = _chance(better.mean(metric) - worse.mean(metric), spreads, (4, 2))
    assert found == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue)


def started(folder, seed):
    """A training that starts from weights in a folder."""
    init = {"init_cfg": {"checkpoint": f"{folder}/epoch_1.pth"}}
    resolved = {"model": init, "randomness": {"seed": seed}}
    config = {"name": "net", "resolved": resolved}
    return measured(config=config, checkpoint={"sha256": f"{seed:064x}"})


def test_seeds_that_start_from_weights_of_their_own_are_a_group():
    of_seeds = [started(f"out/cls-1/seed-{seed}", seed) for seed in (0, 1)]
    assert len(grouped(of_seeds)) == 1
    # Of another setting, or all from one seed's: not what differs in the seed alone.
    assert len(grouped([*of_seeds, started("out/cls-2/seed-2", 2)])) == 2
    assert len(grouped([*of_seeds, started("out/cls-1/seed-0", 2)])) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 2},
        {"training": {"iterations": 8}},
        {"dataset": {"fingerprint": "f" * 64}},
        {"model": {"stitch": 1}},
        {"protocols": ["another"]},
    ],
)
def test_other_settings_are_other_groups(changes):
    assert len(grouped([run(0.4, 0), run(0.4, 1, **changes)])) == 2


def test_differences_within_noise_share_a_rank():
    records = [
        *(run(ap, seed, 1) for seed, ap in enumerate((0.500, 0.502, 0.501))),
        *(run(ap, seed, 2) for seed, ap in enumerate((0.495, 0.505, 0.499))),
        *(run(ap, seed, 3) for seed, ap in enumerate((0.400, 0.401, 0.402))),
        *(run(ap, seed, 4) for seed, ap in enumerate((0.300, 0.300))),
        *(run(ap, seed, 5) for seed, ap in enumerate((0.200, 0.200))),
    ]
    assert ranks(grouped(records)) == [1, 1, 3, 4, 5]


def test_what_is_not_ranked():
    records = [
        *(run(ap, seed, 1) for seed, ap in enumerate((0.500, 0.502))),
        run(0.9, 0, 2),  # one seed
        *(run(0.9, s, 3, dataset=PARTIAL) for s in (0, 1)),
        *(run(0.9, s, 4, dataset={"fingerprint": "f" * 64}) for s in (0, 1)),
        published(metrics={"coco/bbox_mAP": 0.99}),
    ]
    # The fourth is of other data, and the first of its own.
    assert ranks(grouped(records)) == [1, None, None, 1, None]


def test_filters():
    boxes = published()
    masks = measured(
        task="instance segmentation",
        metrics={"coco/bbox_mAP": 0.5, "coco/segm_mAP": 0.4},
    )
    scores = published(
        task="classification",
        metrics={"accuracy/top1": 80},
        dataset={"name": "ImageNet-1k", "split": "val"},
    )
    every = [boxes, masks, scores]
    assert selected(every) == every
    assert selected(every, task="detection") == [boxes, masks]
    assert selected(every, task="instance segmentation") == [masks]
    assert selected(every, dataset="coco") == [boxes, masks]
    assert selected(every, family="nets", kind="published") == [boxes, scores]
    assert selected(every, kind="measured") == [masks]
    assert selected(every, params=(40, 50)) == [masks]
    assert selected(every, params=(50, 60)) == []


def text_of(table, width=80) -> str:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_tables_show_mean_spread_and_kind():
    records = [run(0.40, 0), run(0.42, 1), published()]
    for width in (80, 120):
        text = text_of(terminal(records, width=width), width)
        assert max(map(len, text.splitlines())) <= width
        for part in ("net-1", "bbox_mAP 0.41", "± 0.014", "47.6M", "published", "235G"):
            assert part in " ".join(text.split()), part
    lines = markdown(records).splitlines()
    assert len(lines) == 4
    assert "bbox_mAP 0.41 ± 0.014 (n=2)" in lines[3] and "235G @ 800x1216" in lines[3]
    assert "A paper, table 1" in lines[2] and "| published |" in lines[2]


LONG = "stitched-efficientnet-lite-0-1-2_mask2former_8xb2-160k_ade20k-512x512"
SHORT = "revcol-t_mask-rcnn_8xb2-1x_coco"


@pytest.mark.parametrize("width", [40, 72, 80, 100, 120, 160, None])
def test_a_name_stays_whole_and_every_figure_is_there(width, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if width:
        monkeypatch.setenv("COLUMNS", str(width))
    split = {"name": "Objects365 v1", "split": "annotations/instances_val2017.json"}
    records = [
        measured(config={"name": name, "resolved": RESOLVED}, dataset=split)
        for name in (LONG, SHORT)
    ]
    show(terminal(records, width=line_width()))
    lines = capsys.readouterr().out.splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if "Rank 1" in line)]
    words = [word for line in table for word in line.split()]
    assert {LONG, SHORT} <= set(words)
    for part in ("0.4904", "47.6M", "235G", "measured", "Objects365", "val2017"):
        assert part in " ".join(words), part
    # A name that is longer than the terminal's line is the only reason for a longer.
    least = max(width or 0, len(LONG))
    assert width is None or max(map(len, lines)) <= least
    if width is None:  # a line for each, for grep and awk
        assert len(table) == 4
        assert all("0.4904" in line for line in table[2:])


def test_a_classifier_has_no_head_to_tell_and_what_it_started_from_is_told():
    given = {"name": "NFNet-F0", "family": "NFNet", "backbone": "NFNet"}
    record = published(
        task="classification",
        metrics={"accuracy/top1": 83.6},
        model={**given, "head": "Linear"},
        training={"pretraining": ["ImageNet-22k", "Objects365"], "epochs": 360},
        protocols=["256 px"],
    )
    told = "from ImageNet-22k + Objects365; 360 epochs; 256 px"
    assert f"| NFNet-F0 ({told}) |" in markdown([record])
    (row,) = map(entry, grouped([record]))
    assert (row["head"], row["conditions"]) == ("", told)


def test_tables_show_the_figures_that_papers_show():
    names = ("bbox_mAP", "bbox_mAP_75", "segm_mAP", "boundary_mAP", "boundary_mAP_s")
    record = measured(metrics={f"coco/{name}": 0.5 for name in names})
    assert "| bbox_mAP 0.5, segm_mAP 0.5, boundary_mAP 0.5 |" in markdown([record])
    names = ("PQ", "SQ", "RQ", "PQ_th", "SQ_th", "PQ_st", "person_PQ")
    metrics = {f"coco_panoptic/{name}": 50.5 for name in names}
    record = measured(task="panoptic segmentation", metrics=metrics)
    assert "| PQ 50.5, PQ_th 50.5, PQ_st 50.5 |" in markdown([record])


def test_markup_is_shown_as_it_is():
    hostile = measured(
        config={"name": "<script>alert(1)</script>[red]|x"}, protocols=["<img>"]
    )
    text = markdown([hostile])
    assert "<" not in text and "&lt;script&gt;" in text and r"[red]\|x" in text
    assert len({line.replace(r"\|", "").count("|") for line in text.splitlines()}) == 1
    assert "[red]" in text_of(terminal([hostile], width=120), 120)


def test_incomplete_test_is_visible():
    record = measured(dataset=PARTIAL)
    assert "3 of 4" in markdown([record])
    assert "3 of 4 images" in " ".join(
        text_of(terminal([record], width=120), 120).split()
    )


def test_facts_and_differences():
    one = measured()
    resolved = {**RESOLVED, "model": {"type": "RetinaNet", "note": "\x1b[2J"}}
    other = measured(
        metrics={"coco/bbox_mAP": 0.5}, config={"name": "c", "resolved": resolved}
    )
    assert facts(one)["model.flops_shape"] == "800, 1216"
    assert facts(one)["config.resolved.model.type"] == "DINO"
    text = text_of(differences(one, other), 160)
    for part in ("config.name", "a|b", "RetinaNet", "0.4904", "+0.0096"):
        assert part in text
    assert "wall_time" not in text and "\x1b" not in text
