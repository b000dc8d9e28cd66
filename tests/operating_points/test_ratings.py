"""The metric of each stitch, from the records of a test."""

from datetime import datetime, timedelta, timezone
from itertools import count

import pytest

from mmrev.leaderboard.record import MeasuredRecord
from mmrev.operating_points.ratings import rate_stitches

WEIGHTS, OTHERS = "0123456789abcdef" * 4, "fedcba9876543210" * 4
BORN = datetime(2026, 1, 1, tzinfo=timezone.utc)
minutes = count()


def record(
    stitch, ap=0.5, config="net", weights=WEIGHTS, tta=False, images=4, **metrics
):
    """Later than every record before."""
    return MeasuredRecord(
        task="detection",
        date=BORN + timedelta(minutes=next(minutes)),
        wall_time=1.0,
        config={"name": config, "sha256": WEIGHTS, "tta": tta, "resolved": {}},
        checkpoint={"name": "epoch_1.pth", "sha256": weights},
        training={},
        dataset={
            "name": "COCO",
            "type": "CocoDataset",
            "root": "",
            "split": "val",
            "fingerprint": WEIGHTS,
            "images_expected": 4,
            "images_evaluated": images,
            "images_unreadable": 4 - images,
        },
        model={
            "name": "net",
            "family": "Stitched",
            "type": "DINO",
            "head": "DINO",
            "backbone": "StitchedBackbone",
            "params": 1,
            "flops": 1,
            "flops_shape": (8, 8),
            "stitch": stitch,
        },
        metrics=metrics or {"coco/bbox_mAP": ap, "mIoU": 1.0},
        protocols=["COCO"],
        speed=None,
        predictions=None,
        seeds={"train": None, "test": 1},
        software={"python": "3", "packages": {}, "commit": None, "dirty": None},
        hardware={"cpu": "", "cores": 1, "gpus": []},
    )


def rate(records, stitches=range(5), config="net", checkpoint=WEIGHTS, **settings):
    return rate_stitches(
        records, stitches, config=config, checkpoint=checkpoint, **settings
    )


def test_only_records_of_these_weights_and_stitches_count():
    records = [
        record(0, 0.1),
        record(1, 0.2),
        record(1, 0.9, weights=OTHERS),
        record(None, 0.8),
    ]
    ratings = rate(records)
    assert ratings.metric == "coco/bbox_mAP"
    assert ratings.values == {0: 0.1, 1: 0.2}
    what = "net, epoch_1.pth (01234567), 4 images of CocoDataset val"
    assert ratings.notes == [
        f"coco/bbox_mAP: 2 of {what}",
        "without a record: 2, 3, 4",
    ]
    # The weights tell what was tested, whatever the config is called now.
    assert rate(records, config="renamed").values == ratings.values


def test_of_two_records_the_newer_counts_and_that_is_said():
    records = [record(0, 0.1), record(1, 0.2), record(0, 0.3)]
    ratings = rate(records, range(2))
    assert ratings.values == {0: 0.3, 1: 0.2}
    when = f"{records[2].date:%Y-%m-%d %H:%M}"
    assert ratings.notes[1:] == [f"stitch 0: 2 records, the newest counts: {when}"]


def test_without_weights_the_config_tells():
    records = [record(0, 0.1), record(1, 0.9, config="other")]
    assert rate(records, checkpoint=None).values == {0: 0.1}


def test_metrics():
    records = [record(0, mIoU=50.0, aAcc=None), record(1, mIoU=60.0, aAcc=70.0)]
    assert rate(records).values == {0: 50.0, 1: 60.0}
    ratings = rate(records, metric="aAcc")
    assert ratings.metric == "aAcc" and ratings.values == {0: None, 1: 70.0}
    with pytest.raises(ValueError, match="no metric mAcc, only aAcc, mIoU"):
        rate(records, metric="mAcc")
    with pytest.raises(ValueError, match=r"bbox_mAP or mIoU or .*, only loss"):
        rate([record(0, loss=1.0, nothing=None)])


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([], {}, "no record of a stitch of weights 01234567; found: none at all"),
        (
            [record(0, weights=OTHERS), record(None)],
            {},
            r"1 of net, .*\(fedcba98\), .* val; 1 of net, .* val, no stitch\. Test",
        ),
        ([record(0)], dict(checkpoint=None, config="b"), "of config b; found: 1 of n"),
        (
            [record(0), record(1, tta=True)],
            {},
            r"weights 01234567 are of several tests: 1 of net, .*; 1 of net \+ TTA",
        ),
        ([record(0), record(1, images=3)], {}, "several tests: .* 3 images of"),
        (
            [record(0), record(1, weights=OTHERS)],
            dict(checkpoint=None),
            r"config net are of several tests: .*\(01234567\).*\(fedcba98\)",
        ),
        ([record(7)], {}, r"record of stitch 7, but the model of net has 0\.\.4"),
    ],
)
def test_records_that_do_not_fit(records, settings, message):
    with pytest.raises(ValueError, match=message):
        rate(records, **settings)
