"""Whether a record says what its files say."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
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
    Stage,
)
from mmrev.paths import inside, leads_out

__all__ = ["Check", "files_by_name", "find_file", "verify"]

# Figures are the same to the last bit where the same code adds them up.
_TOLERANCE = 1e-6
# The first schema with a place for it.
_WITH_LINEAGE = 7


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
    earlier: Mapping[str, Sequence[Path]] | None = None,
) -> list[Check]:
    """Check every hash of a record, and its metrics by its predictions.

    Args:
        record: As read; its id was checked then.
        path: Its file. Checkpoint and predictions are looked for beside its folder.
        files: More folders to look in.
        data_roots: Where the data may lie, besides the record's own root.
        earlier: Where the checkpoints of earlier stages may be, as of `files_by_name`.
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
    checkpoint, weights = find_file("checkpoint", record.checkpoint, path, files)
    data, datasets = _check_data(record, data_roots)
    checks += [checkpoint, *_check_lineage(record, weights, earlier or {}), data]
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


def files_by_name(folders: Iterable[str | Path]) -> dict[str, list[Path]]:
    """What lies at any depth of some folders; links out of them are left out.

    A checkpoint of a sharded run, which is a folder, counts as a file.
    """
    # Listing records needs no torch.
    from mmrev.checkpoints import is_folder

    found: dict[str, dict[Path, None]] = {}
    for folder in folders:
        for root, subfolders, names in os.walk(folder):
            sharded = filter(is_folder, subfolders)
            for place in (Path(root, name) for name in (*names, *sharded)):
                if not place.is_symlink() or inside(place, folder):
                    found.setdefault(place.name, {})[place] = None
    return {name: list(places) for name, places in found.items()}


def _check_lineage(
    record: MeasuredRecord, weights: Path | None, earlier: Mapping[str, Sequence[Path]]
) -> Iterator[Check]:
    """Compare what a record says of its stages with what their files say.

    Args:
        record: Any.
        weights: The tested file, if it is sound.
        earlier: As of `verify`.
    """
    stages = record.training.stages
    if weights is not None:
        yield from _check_starts(record, weights)
    elif stages:
        yield Check("lineage", "not checked", "no sound checkpoint that tells it")
    for stage in stages:
        name = Path(stage.checkpoint.name).name
        yield _check_stage(stage, earlier.get(name, []))


def _check_starts(record: MeasuredRecord, weights: Path) -> Iterator[Check]:
    """Whether the tested file tells the lineage of the record."""
    stated = record.training.lineage
    try:
        told = _stage_at(weights).starts
    except (OSError, ValueError) as error:
        # What no reader knows may have been tested by other means.
        if stated:
            yield Check("lineage", "altered", str(error))
        return
    if told == stated:
        if told:
            yield Check("lineage", "sound")
    elif record.schema_version >= _WITH_LINEAGE:
        yield Check("lineage", "altered", f"{weights} tells another")


def _check_stage(stage: Stage, places: Sequence[Path]) -> Check:
    """Find the file of a stage, which is to tell what the record says of it."""
    what, wrong = f"stage {stage.name}", None
    for place in places:
        try:
            found = _stage_at(place)
        except (OSError, ValueError) as error:
            wrong = wrong or Check(what, "altered", str(error))
            continue
        # Where weights were published is no part of their file.
        data = {"data": stage.data} if found.kind == "weights" else {}
        known = {"checkpoint": stage.checkpoint, **data}
        alike = found.model_copy(update=known) == stage
        if found.checkpoint.sha256 == stage.checkpoint.sha256:
            detail = "" if alike else f"{place} tells otherwise of its training"
            return Check(what, "sound" if alike else "altered", detail)
        # Every training names its files alike; those of another one are no matter.
        if alike:
            wrong = Check(what, "altered", f"{place} hashes to another")
    absent = f"no {stage.checkpoint.name}; name a folder that it is below: --files"
    return wrong or Check(what, "not checked", absent)


def _stage_at(place: Path) -> Stage:
    stat = place.stat()
    return _read_stage(place, stat.st_size, stat.st_mtime_ns)


@cache
def _read_stage(place: Path, size: int, mtime_ns: int) -> Stage:
    """Read and hash a file once for all records of a chain, unless it changes."""
    # Listing records needs no torch.
    from mmrev.leaderboard.lineage import stage_of

    return stage_of(place)


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
