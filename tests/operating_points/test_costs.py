"""Parameters and operations of stitches, beside those of SN-Net's own tables.

From ziplab/SN-Net, stitching_*/results/stitches_res*.txt, whose classifiers are counted
here, too: each anchor's own, of 1000 classes.
"""

import pytest
import torch

from mmrev.console import show
from mmrev.measure.flops import count_flops
from mmrev.models.stitching import StitchedBackbone
from mmrev.operating_points.costs import (
    StitchCost,
    costs_table,
    count_stitch_params,
    load_costs,
    pareto_front,
    pick_stitch,
    save_costs,
    stitch_costs,
)
from mmrev.operating_points.ratings import Ratings

SWIN = [
    dict(type="mmpretrain.SwinTransformer", arch=arch)
    for arch in ("tiny", "small", "base")
]
DEIT = [
    dict(type="mmpretrain.VisionTransformer", arch=f"deit-{arch}", out_type="featmap")
    for arch in ("tiny", "small", "base")
]
RESNETS = [
    dict(type="mmpretrain.ResNet", depth=depth, out_indices=(0, 1, 2, 3))
    for depth in (18, 50)
]
SETS = {
    "swin": dict(anchors=SWIN, routes=dict(stages=(0, 1, 2), monotone=True)),
    "deit": dict(anchors=DEIT, routes=dict(stages=(0,))),
    "resnet": dict(anchors=RESNETS, routes=dict(stages=(1, 2), monotone=True)),
    "resnet and swin": dict(
        anchors=[RESNETS[0], SWIN[0]], routes=dict(stages=(1, 2), monotone=True)
    ),
}
WIDTHS = {
    "swin": (768, 768, 1024),
    "deit": (192, 384, 768),
    "resnet": (512, 2048),
    "resnet and swin": (512, 768),
}


@pytest.fixture(scope="module")
def models():
    models = {}
    for name, settings in SETS.items():
        last = 0 if name == "deit" else 3
        model = StitchedBackbone(**settings, out_indices=(last,))
        models[name] = model.eval().to("meta")
    return models


def classifier(name, anchor):
    return (WIDTHS[name][anchor] + 1) * 1000


@pytest.mark.parametrize(
    ("name", "total"),
    [
        ("swin", 170_009_108),
        ("deit", 118_403_448),
        ("resnet", 37_904_976),
        ("resnet and swin", 40_200_010),
    ],
)
def test_total_params_equal_the_references(models, name, total):
    model = models[name]
    adapters = sum(p.numel() for p in model.adapters.parameters())
    counted = sum(p.numel() for p in model.parameters()) - adapters
    heads = sum(classifier(name, anchor) for anchor in range(len(model.anchors)))
    assert counted + heads == total


@pytest.mark.parametrize(
    ("name", "stitch", "params"),
    [
        ("deit", 0, 5_717_416),
        ("deit", 2, 86_567_656),
        ("deit", 3, 22_345_960),
        ("deit", 24, 13_038_760),
        ("deit", 70, 29_742_952),
        ("swin", 3, 49_615_570),
        ("swin", 5, 49_568_818),
        ("swin", 7, 49_383_154),
        ("swin", 40, 63_005_478),
    ],
)
def test_params_equal_the_references(models, name, stitch, params):
    model = models[name]
    head = classifier(name, model.routes[stitch].anchors[-1])
    counted = count_stitch_params(model, stitch, as_reference=True)
    assert counted + head == params
    assert count_stitch_params(model, stitch) >= counted


@pytest.mark.parametrize(
    ("name", "stitch", "flops"),
    [
        ("deit", 3, 4_696_010_496),
        ("deit", 24, 2_758_967_808),
        ("deit", 70, 6_121_909_248),
        ("swin", 3, 8_797_436_160),
        ("swin", 40, 9_667_129_344),
        ("resnet", 9, 2_490_225_664),
        ("resnet and swin", 7, 2_542_345_472),
    ],
)
def test_flops_agree_with_the_references(models, name, stitch, flops):
    """Within 2 %: norms and softmaxes are counted here and there by other rules."""
    model = models[name]
    model.set_stitch(stitch)
    image = torch.empty(1, 3, 224, 224, device="meta")
    counted = count_flops(lambda: model(image))
    assert counted == pytest.approx(flops, rel=0.02)


def rows(**columns):
    defaults = dict(route="0", params=1, params_as_reference=1, flops=1)
    table = [
        dict(zip(columns, values, strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
    return [StitchCost(**defaults | {"id": i} | row) for i, row in enumerate(table)]


COSTS = rows(
    flops=[1_000_000_000, 3_000_000_000, 2_000_000_000],
    latency_ms=[10.0, 30.0, 40.0],
    memory_mb=[5.0, 9.0, 3.0],
)


@pytest.mark.parametrize(
    ("budgets", "stitch"),
    [
        ({}, 1),
        (dict(gflops=2.0), 2),
        (dict(gflops=2.5, budget_ms=20), 0),
        (dict(memory_mb=5), 2),
        (dict(memory_mb=5, budget_ms=39.9), 0),
    ],
)
def test_the_largest_stitch_within_the_budgets(budgets, stitch):
    assert pick_stitch(COSTS, **budgets) == stitch


def test_the_best_stitch_where_a_metric_is_known():
    costs = rows(metric=[0.4, None, 0.3], flops=[1, 2, 3])
    assert pick_stitch(costs) == 0
    assert pick_stitch(costs, gflops=1e-6) == 0


def test_a_front_of_each_cost():
    costs = rows(
        metric=[0.1, 0.3, 0.2, None],
        flops=[1, 3, 2, 4],
        latency_ms=[10.0, 20.0, 30.0, 1.0],
    )
    fronts = {by: pareto_front(costs, by) for by in ("latency_ms", "flops")}
    assert {by: [cost.id for cost in front] for by, front in fronts.items()} == {
        "latency_ms": [0, 1],
        "flops": [0, 2, 1],
    }
    with pytest.raises(ValueError, match=r"with memory_mb of every stitch, .*repeats"):
        pareto_front(costs, "memory_mb")


def test_a_long_route_leaves_room_for_the_figures(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    figures = dict(params=118403448, params_as_reference=118403448, flops=17580000000)
    route = " > ".join(map(str, range(40)))
    show(costs_table([StitchCost(id=7, route=route, latency_ms=1234.5, **figures)]))
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    cells = [line[1:-1] for line in lines if len(line) > 2]
    assert [cell.strip() for cell in cells[0][:6]] == [
        *("7", "118.40", "118.40", "17.58", "1234.5", "-")
    ]
    assert " ".join(row[6].strip() for row in cells) == route


def test_the_front_is_marked_in_the_table():
    ratings = Ratings("coco/bbox_mAP", {0: 0.1, 1: 0.3, 2: 0.2}, ["from somewhere"])
    columns = dict(metric=[0.1, 0.3, 0.2, None], flops=[1, 3, 2, 4])
    tables = [
        costs_table(rows(**columns), ratings),
        costs_table(rows(**columns, latency_ms=[10.0, 20.0, 30.0, 1.0]), ratings),
    ]
    for table, against, stars in zip(
        tables, ("GMACs", "ms"), (["*", "*", "*", ""], ["*", "*", "", ""]), strict=True
    ):
        cells = {str(column.header): list(column.cells) for column in table.columns}
        assert cells["bbox_mAP"] == ["0.1", "0.3", "0.2", "-"]
        assert cells["*"] == stars
        assert f"better in both bbox_mAP and {against}\nfrom some" in str(table.caption)
    plain = costs_table(rows(**columns))
    assert "*" not in [str(column.header) for column in plain.columns]


@pytest.mark.parametrize(
    ("costs", "budgets", "message"),
    [
        (COSTS, dict(budget_ms=5), r"budget_ms=5; .*stitch 0 needs least, 10\."),
        (
            COSTS,
            dict(budget_ms=10, memory_mb=4),
            r"memory_mb=4; .*stitch 0 needs least, 5\.",
        ),
        ([], {}, "got an empty one"),
        (rows(flops=[1, 2]), dict(budget_ms=5), "budget_ms=5 needs .*repeats > 0"),
    ],
)
def test_budgets_that_nothing_meets(costs, budgets, message):
    with pytest.raises(ValueError, match=message):
        pick_stitch(costs, **budgets)


def test_measured_costs_and_their_file(tmp_path):
    net = dict(type="mmrev.ReduceNet")
    arch = dict(channels=[8, 16, 24, 32], expansion=1)
    anchors = [dict(net, arch=dict(arch, depths=[1, 1, n, 1])) for n in (2, 3)]
    model = StitchedBackbone(anchors, routes=dict(stages=(2,), monotone=True))
    model.set_stitch(0)
    costs = stitch_costs(model, image_size=64, repeats=1)
    assert model.stitch == 0 and model.training
    assert [cost.id for cost in costs] == [0, 1, 2, 3]
    assert costs[0].params == sum(p.numel() for p in model.anchors[0].parameters())
    assert costs[0].flops < costs[1].flops
    # At least what the stem gives.
    assert all(cost.memory_mb > 8 * 16 * 16 * 4 / 2**20 for cost in costs)
    save_costs(costs, tmp_path / "costs.json")
    assert load_costs(tmp_path / "costs.json") == costs
    assert stitch_costs(model, image_size=64, repeats=0)[0].latency_ms is None


@pytest.mark.parametrize("text", ["", "{", "3", "[3]", '[{"id": 1}]', '{"id": 1}', "é"])
def test_a_file_that_is_no_table(tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text, "latin-1")
    with pytest.raises(ValueError, match=r"costs\.json: expected a table of stitches"):
        load_costs(path)
