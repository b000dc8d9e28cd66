"""Whether a record says what its files say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmrev.hashes import file_sha256
from mmrev.leaderboard.fingerprint import (
    annotations_of,
    config_sha256,
    joined_sha256,
    plain_sha256,
)
from mmrev.leaderboard.record import (
    CheckpointInfo,
    DataPart,
    MeasuredRecord,
    PredictionFile,
    Record,
)
from mmrev.paths import inside, leads_out

__all__ = ["Check", "find_file", "verify"]

# Figures are the same to the last bit where the same code adds them up.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Check:
    """What was compared, and how it went.

    Attributes:
        what: Part of the record.
        state: 'sound', 'altered', or 'not checked' where a file is not at hand.
        detail: Names the file.
    """

    what: str
    state: Literal["sound", "altered", "not checked"]
    detail: str = ""


def verify(
    record: Record,
    path: Path,
    files: Sequence[str | Path] = (),
    data_roots: Sequence[str | Path] = (),
) -> list[Check]:
    """Check every hash of a record, and its metrics by its predictions.

    Args:
        record: As read; its id was checked then.
        path: Its file. Checkpoint and predictions are looked for beside its folder.
        files: More folders to look in.
        data_roots: Where the data may lie, besides the record's own root.
    """
    same = path.read_bytes() == record.to_bytes()
    checks = [
        Check("record", "sound")
        if same
        else Check("record", "altered", f"{path} is not in the form it was written in")
    ]
    if not isinstance(record, MeasuredRecord):
        return checks
    found = config_sha256(record.config.resolved)
    checks[0] = replace(checks[0], detail=checks[0].detail or _computed_by(record))
    checks.append(
        Check("config", "sound")
        if found == record.config.sha256
        else Check("config", "altered", f"{path}: config.resolved hashes to another")
    )
    checkpoint, _ = find_file("checkpoint", record.checkpoint, path, files)
    data, datasets = _check_data(record, data_roots)
    checks += [checkpoint, data]
    if record.predictions is None:
        return [*checks, Check("predictions", "not checked", "none were stored")]
    stored, predictions = find_file("predictions", record.predictions, path, files)
    return [*checks, stored, _check_metrics(record, predictions, datasets)]


def _computed_by(record: MeasuredRecord) -> str:
    return f"mmcv's ops: {record.software.ops_told}"


def find_file(
    what: str,
    stated: CheckpointInfo | PredictionFile,
    record: Path,
    files: Sequence[str | Path] = (),
) -> tuple[Check, Path | None]:
    """Find a file by its name and hash.

    Args:
        what: Part of the record.
        stated: What the record says of it.
        record: The record's file; looked for beside its folder.
        files: More folders to look in.

    Returns:
        The check, and the file if it is sound: of several of its name one must be.
    """
    folders = [record.parent.parent, record.parent, *map(Path, files)]
    names = Path(stated.name).name, f"{stated.sha256}{Path(stated.name).suffix}"
    places = [
        place
        for folder in folders
        for place in (folder / names[0], folder / "predictions" / names[1])
        if place.is_file()
    ]
    linked = [place for place in places if not inside(place, *folders)]
    places = [place for place in places if place not in linked]
    for place in places:
        if file_sha256(place) == stated.sha256:
            return Check(what, "sound"), place
    if places:
        return Check(what, "altered", f"{places[0]} hashes to another"), None
    if linked:
        detail = f"{linked[0]} is a link to {linked[0].resolve()}"
        return Check(what, "not checked", f"{detail}; name its folder: --files"), None
    return Check(what, "not checked", f"no {names[0]}; name its folder: --files"), None


def _check_data(
    record: MeasuredRecord, data_roots: Sequence[str | Path]
) -> tuple[Check, list[Any] | None]:
    # Listing records needs no torch.
    from mmrev.leaderboard.recompute import data_parts

    parts, datasets = data_parts(record), []
    if joined_sha256([one.fingerprint for one in parts]) != record.dataset.fingerprint:
        return Check("annotations", "altered", "its parts hash to another"), None
    for number, part in enumerate(parts):
        check, dataset = _check_part(record, number, part, data_roots)
        if dataset is None:
            return check, None
        datasets.append(dataset)
    return check, datasets


def _check_part(
    record: MeasuredRecord,
    number: int,
    part: DataPart,
    data_roots: Sequence[str | Path],
) -> tuple[Check, Any]:
    """Find one of the data sets that were tested together."""
    from mmrev.leaderboard.recompute import build_dataset

    name, wrong = "annotations", None
    if leads_out(part.split):
        detail = f"expected files below the data root, got {part.split!r:.100}"
        return Check(name, "not checked", detail), None
    # A record is not asked where to look, but below the folder it is verified in.
    own = () if leads_out(part.root) else (part.root,)
    for root in (*data_roots, *own):
        if not (place := Path(root, part.split)).exists():
            continue
        try:
            dataset = build_dataset(record, root, number)
            settings = record.config.resolved["test_dataloader"]["dataset"]
            found = plain_sha256(dataset, settings)
        except OSError:
            continue
        except ValueError as error:
            wrong = wrong or Check(name, "not checked", f"{place}: {error}")
            continue
        if found == part.fingerprint:
            return Check(name, "sound"), dataset
        annotations, folders = annotations_of(dataset)
        place = ", ".join(str(place) for place in (annotations, *folders) if place)
        wrong = Check(name, "altered", f"{place} hashes to another")
    if wrong:
        return wrong, None
    detail = f"no {part.split}; name the data's folder: --data-root"
    return Check(name, "not checked", detail), None


def _check_metrics(
    record: MeasuredRecord, predictions: Path | None, datasets: list[Any] | None
) -> Check:
    from mmrev.leaderboard.recompute import NotRecomputableError, recompute

    if predictions is None or datasets is None:
        lacking = "predictions" if predictions is None else "annotations"
        return Check("metrics", "not checked", f"no sound {lacking} to recompute from")
    try:
        found = recompute(record, predictions, datasets)
    except NotRecomputableError as error:
        return Check("metrics", "not checked", str(error))
    except ValueError as error:
        return Check("metrics", "altered", str(error))
    different = [
        f"{name} {_text(value)}, recomputed {_text(found.get(name))}"
        for name, value in record.metrics.items()
        if not _close(value, found.get(name))
    ]
    if different:
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        return Check("metrics", "altered", "; ".join(different[:3]) + more)
    return Check("metrics", "sound", f"{len(record.metrics)} recomputed")


def _close(stated: float | None, found: float | None) -> bool:
    if found is None or not math.isfinite(found):
        return stated is None
    if stated is None:
        return False
    return math.isclose(stated, found, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
