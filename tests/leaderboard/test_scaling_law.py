"""Laws of error against cost: the fit, its band, what is fitted together."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from make_records import measured
from site_records import synthetic

from mmrev.leaderboard.groups import grouped
from mmrev.leaderboard.published import published_records
from mmrev.leaderboard.scaling_law import COSTS, collect, describe, fit_law
from mmrev.leaderboard.store import save_record

TOOL = Path(__file__).parents[2] / "tools/analysis/scaling_law.py"
COSTS_OF = np.array([1.0, 3.0, 10.0, 30.0, 100.0])


def test_an_exact_law_is_found_with_an_empty_band():
    law = fit_law(COSTS_OF, 20 * COSTS_OF**-0.25)
    assert law.coefficient == pytest.approx(20)
    assert law.exponent == pytest.approx(-0.25)
    assert law.exponent_range == pytest.approx((-0.25, -0.25))
    assert law.r_squared == pytest.approx(1)
    error, low, high = law.band([2, 200])
    np.testing.assert_allclose(error, 20 * np.array([2, 200]) ** -0.25)
    np.testing.assert_allclose(low, high)


def test_the_band_holds_the_law_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 20 * COSTS_OF**-0.25
    places, exponents = np.zeros(len(COSTS_OF)), 0
    for _ in range(2000):
        law = fit_law(COSTS_OF, truth * np.exp(rng.normal(0, 0.05, len(truth))))
        _, low, high = law.band(COSTS_OF)
        places += (low <= truth) & (truth <= high)
        exponents += law.exponent_range[0] <= -0.25 <= law.exponent_range[1]
    # Four standard deviations of a share of 2000 are 0.02.
    np.testing.assert_allclose(places / 2000, 0.95, atol=0.02)
    assert exponents / 2000 == pytest.approx(0.95, abs=0.02)


def test_the_band_is_that_of_least_squares():
    errors = np.array([19.0, 16.0, 11.5, 8.0, 6.6])
    law = fit_law(COSTS_OF, errors)
    design = np.stack([np.ones(5), np.log(COSTS_OF)], 1)
    (a, b), (squares,), *_ = np.linalg.lstsq(design, np.log(errors))
    assert (law.coefficient, law.exponent) == pytest.approx((np.exp(a), b))
    covariance = squares / 3 * np.linalg.inv(design.T @ design)
    at = np.array([1, np.log(300)])
    margin = 3.182446305 * np.sqrt(at @ covariance @ at)  # t of 3 degrees, 97.5 %
    expected = np.exp(at @ [a, b] + margin * np.array([0, -1, 1]))
    assert np.ravel(law.band([300])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("costs", "errors", "message"),
    [
        ([1, 2, 3], [3, 2, 1], "at least 4 points, got 3"),
        ([], [], "at least 4 points, got 0"),
        ([1, 2, 1, 2], [3, 2, 3, 2], "at least 3 different costs, got 2"),
        ([0, 1, 2, 3], [4, 3, 2, 1], "above 0"),
        ([1, 2, 3, 4], [3, 2, 1, 0], "above 0"),
        ([1, 2, 3, 4], [3, 2, 1], "as many errors as costs, got 3 and 4"),
    ],
)
def test_refuses_what_has_no_law(costs, errors, message):
    with pytest.raises(ValueError, match=message):
        fit_law(costs, errors)


def test_seeds_are_one_point_and_their_mean():
    records = synthetic(3)
    (series,) = collect(grouped(records), "params")
    mean = np.mean([record.metrics["coco/bbox_mAP"] for record in records])
    assert series.costs == [records[0].model.params / 1e6]
    assert series.errors == pytest.approx([1 - mean])
    assert "at least 4 points, got 1" in describe(series)


def test_what_differs_in_more_than_size_is_kept_apart():
    published = list(published_records())
    sizes = [
        measured(model={"params": 10**place}, config={"name": f"config-{place}"})
        for place in range(6, 10)
    ]
    head = measured(model={"head": "Mask R-CNN"}, config={"name": "head"})
    tuned = measured(training={"pretraining": ["a.pth"]}, config={"name": "tuned"})
    found = collect(grouped([*sizes, head, tuned, *published]), "params")
    ours = [series for series in found if series.kind == "measured"]
    assert sorted(len(series.costs) for series in ours) == [1, 1, 4]
    assert {series.kind for series in found} == {"measured", "published"}
    for series in found:
        assert len(series.names) == len(series.costs) == len(series.errors)
    keys = [tuple(series)[:6] for series in found]
    assert len(set(keys)) == len(keys)


def stitches(anchors: str, tta: bool = False, **changes):
    """Four stitches of one set of anchors, of growing size."""
    for stitch in range(4):
        model = {"name": anchors, "family": "Stitched", "stitch": stitch}
        model["params"] = (stitch + 1) * 1_000_000
        config = {"name": f"{anchors}_dino", "tta": tta}
        yield measured(model=model, config=config, **changes)


def test_a_law_is_of_one_set_of_stitches_tested_and_trained_in_one_way():
    records = [
        *stitches("one-set"),
        *stitches("another-set"),
        *stitches("one-set", training={"epochs": 36}),
        *stitches("one-set", protocols=["mmdet CocoMetric"]),
        *stitches("one-set", tta=True),
    ]
    found = collect(grouped(records), "params")
    assert [series.costs for series in found] == [[1, 2, 3, 4]] * 5
    assert {series.setting for series in found} == {
        "one-set, DINO, 1 epoch, COCO",
        "one-set, DINO, 1 epoch, mmdet CocoMetric",
        "one-set, DINO, 1 epoch, TTA",
        "one-set, DINO, 36 epochs",
        "another-set, DINO, 1 epoch",
    }
    assert found[0].names[2] == "another-set, stitch 2"


def test_a_published_law_has_a_model_once():
    for cost in COSTS:
        for series in collect(grouped(published_records()), cost):
            if "not fitted" not in describe(series):
                assert len(set(series.names)) == len(series.names)
                # A set of anchors has two published stitches at most.
                assert series.family != "Stitched"


def test_no_number_or_an_incomplete_one_is_no_point():
    one = measured(metrics={"coco/bbox_mAP": None})
    none_there = measured(metrics={"coco/bbox_mAP": -1.0})
    incomplete = measured(dataset={"images_evaluated": 3, "images_unreadable": 1})
    for record in (one, none_there, incomplete):
        assert collect(grouped([record]), "params") == []


def test_published_nfnets_follow_a_law_whatever_the_cost():
    for cost in ("flops", "params"):
        (series,) = (
            one
            for one in collect(grouped(published_records()), cost)
            if one.family == "NFNet" and "from" not in one.setting
        )
        law = fit_law(series.costs, series.errors)
        assert law.points == 7 and law.exponent_range[1] < 0


def trained(width: int, iterations: int, loss: float, training=()):
    """A classifier whose test takes `width` MMACs, trained with batches of 10."""
    return measured(
        task="classification",
        metrics={"accuracy/top1": 50.0, "cross_entropy": loss},
        config={"name": f"net-{width}-{iterations}-{loss}"},
        model={"name": f"net-{width}", "flops": width * 1_000_000},
        training={"iterations": iterations, "batch": 10, "epochs": None}
        | dict(training),
    )


def test_compute_counts_all_images_and_the_law_is_of_the_best():
    # 3 passes of 10 images: 30 MMACs an iteration and unit of width.
    lengths = {1: [(1000, 2.0), (10_000, 1.5)], 10: [(1000, 1.0), (10_000, 0.5)]}
    records = [
        trained(width, iterations, loss)
        for width, points in lengths.items()
        for iterations, loss in points
    ]
    # Of a worse learning rate, and of more compute that came to no more.
    records += [trained(1, 1000, 2.5), trained(100, 10_000, 0.6)]
    (series,) = collect(grouped(records), "compute", "cross_entropy")
    assert series.costs == pytest.approx([0.03, 0.3, 0.3, 3, 0.03, 30])
    assert series.errors == [2.0, 1.5, 1.0, 0.5, 2.5, 0.6]
    assert series.fitted == [True, False, True, True, False, False]
    assert series.names[1] == "net-1, 10000 iterations"
    assert "iteration" not in series.setting
    assert "at least 4 points, got 3" in describe(series)
    records.append(trained(100, 100_000, 0.25))
    (series,) = collect(grouped(records), "compute", "cross_entropy")
    assert series.law().points == 4 and "4 of 7 points" in describe(series)
    # Against the operations of a test, every length has a law of its own.
    found = collect(grouped(records), "flops", "cross_entropy")
    assert len({one.setting for one in found}) == len(found) == 3
    assert all(all(one.fitted) for one in found)


def test_of_equal_points_each_is_fitted():
    records = [trained(1, 1000, 2.0), trained(1, 1000, 2.0, {"data": "other data"})]
    for series in collect(grouped(records), "compute", "cross_entropy"):
        assert series.fitted == [True]


@pytest.mark.parametrize("unknown", ["batch", "iterations"])
def test_unknown_compute_is_no_point(unknown):
    record = trained(1, 1000, 2.0, {unknown: None})
    assert collect(grouped([record]), "compute") == []


def test_a_metric_that_no_record_has(tmp_path, capsys):
    save_record(trained(1, 1000, 2.0), tmp_path)
    arguments = [str(tmp_path), "--metric", "crossentropy"]
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(TOOL))["main"](arguments)
    said = capsys.readouterr().err
    assert "no record has it; did you mean 'cross_entropy'" in said


def test_the_tool_prints_laws_and_refusals(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for record in synthetic(12 * 4):
        save_record(record, tmp_path)
    (tmp_path / "broken.json").write_text("{")
    runpy.run_path(str(TOOL))["main"]([str(tmp_path), "--cost", "params"])
    out, err = capsys.readouterr()
    assert "(measured)" in out and "(published)" in out
    assert "at least 4 points, got" in out and "broken.json" in err
