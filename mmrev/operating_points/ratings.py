"""How good each stitch is, by the records of a test of all."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from mmrev.leaderboard.record import MeasuredRecord

# The metric where none is asked for: the first that the records have.
METRICS = ("coco/bbox_mAP", "mIoU", "accuracy/top1")


class Ratings(NamedTuple):
    """How well stitches did in a test.

    Attributes:
        metric: key of the records.
        values: by id; None where the test gave no number.
        notes: what a reader of the values must know, a line each.
    """

    metric: str
    values: dict[int, float | None]
    notes: list[str]


def rate_stitches(
    records: Sequence[MeasuredRecord],
    stitches: Sequence[int],
    *,
    config: str,
    checkpoint: str | None = None,
    metric: str | None = None,
) -> Ratings:
    """Read the metric of stitches from the records that ``StitchTestLoop`` left.

    Numbers of different tests are not mixed: the records must agree in weights, name of
    the config, augmentation, data and protocol. Of two records of a stitch the newer
    one counts.

    Args:
        records: oldest first, as `mmrev.leaderboard.load_records` gives them.
        stitches: ids of the model.
        config: name of the model's config without its ending; what the records must be
            of if there is no `checkpoint`.
        checkpoint: hash of its weights, SHA-256.
        metric: key of the records; None takes the first of `METRICS` that they have.

    Returns:
        The ratings.

    Raises:
        ValueError: with what there is, if no record fits, or those of several tests do,
            or of stitches that the model has not, or none has the metric.
    """
    fitting = [
        record
        for record in records
        if record.model.stitch is not None
        and (
            record.config.name == config
            if checkpoint is None
            else record.checkpoint.sha256 == checkpoint
        )
    ]
    wanted = f"config {config}" if checkpoint is None else f"weights {checkpoint[:8]}"
    if not fitting:
        raise ValueError(
            f"no record of a stitch of {wanted}; found: {_found(records)}. Test with "
            "test_cfg = dict(type='mmrev.StitchTestLoop') first."
        )
    if len({_test_of(record) for record in fitting}) > 1:
        raise ValueError(
            f"the records of {wanted} are of several tests: {_found(fitting)}. Give "
            "the files of one."
        )
    newest = {record.model.stitch: record for record in fitting}
    if others := sorted(set(newest) - set(stitches)):
        raise ValueError(
            f"a record of stitch {others[0]}, but the model of {config} has "
            f"{stitches[0]}..{stitches[-1]}: it is of other routes. Test again."
        )
    metrics = [record.metrics for record in newest.values()]
    keys = sorted({key for found in metrics for key in found if found[key] is not None})
    offered = METRICS if metric is None else [metric]
    key = next((key for key in offered if key in keys), None)
    if key is None:
        raise ValueError(
            f"the records have no metric {' or '.join(offered)}, only "
            f"{', '.join(keys) or 'none'}. Choose one of these."
        )
    notes = [f"{key}: {_found(fitting)}"]
    for stitch, count in Counter(record.model.stitch for record in fitting).items():
        if count > 1:
            date = f"{newest[stitch].date:%Y-%m-%d %H:%M}"
            notes.append(f"stitch {stitch}: {count} records, the newest counts: {date}")
    if missing := [str(stitch) for stitch in stitches if stitch not in newest]:
        notes.append(f"without a record: {', '.join(missing)}")
    values = {stitch: record.metrics.get(key) for stitch, record in newest.items()}
    return Ratings(key, values, notes)


def _test_of(record: MeasuredRecord) -> tuple:
    """What two records must have in common for their numbers to be compared."""
    config, weights = record.config, record.checkpoint.sha256
    return config.name, config.tta, weights, record.dataset, tuple(record.protocols)


def _found(records: Sequence[MeasuredRecord]) -> str:
    """How many records there are of which tests."""
    tests = Counter(
        f"{record.config.name}{' + TTA' if record.config.tta else ''}, "
        f"{record.checkpoint.name} ({record.checkpoint.sha256[:8]}), "
        f"{record.dataset.images_evaluated} images of {record.dataset.type} "
        f"{record.dataset.split}" + (", no stitch" * (record.model.stitch is None))
        for record in records
    )
    return "; ".join(f"{n} of {test}" for test, n in tests.items()) or "none at all"
