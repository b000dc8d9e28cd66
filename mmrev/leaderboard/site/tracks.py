"""Models on several tracks: figures beside each other, and how alike they rank."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from scipy.stats import kendalltau, spearmanr

from mmrev.leaderboard.groups import Group
from mmrev.leaderboard.record import MeasuredRecord, main_metric
from mmrev.leaderboard.site.entries import entry, metric_label
from mmrev.leaderboard.table import head, model_name
from mmrev.leaderboard.tracks import TRACKS

__all__ = ["LEAST_MODELS", "Board", "boards", "correlations"]

LEAST_MODELS = 4
"""Of three models, any two orders agree exactly once in six by chance."""


@dataclass(frozen=True)
class Column:
    """A way to train and test: track, head and length.

    Attributes:
        track: of `TRACKS`.
        head: as the table has it.
        length: of the training, in words.
        method: what the config's name calls it, without the track.
    """

    track: str
    head: str
    length: str
    method: str


@dataclass
class Board:
    """The models of one test.

    Attributes:
        task: of the test.
        title: data, split and metric.
        columns: in the order of heads, lengths and tracks.
        rows: by name of the model and what it started from, in the order of families
            and sizes: the entry of each column.
    """

    task: str
    title: str
    columns: list[Column] = field(default_factory=list)
    rows: dict[tuple[str, str], dict[Column, dict[str, Any]]] = field(
        default_factory=dict
    )

    def of(self, column: Column) -> dict[tuple[str, str], float]:
        """The figures of a column, percent, by row."""
        return {
            row: cells[column]["figures"][cells[column]["metric"]]["mean"]
            for row, cells in self.rows.items()
            if column in cells
        }


def boards(groups: Iterable[Group]) -> list[Board]:
    """Set the tracks of every test beside each other, where there are several.

    Complete tests without augmentation; of several of one cell the newest. What was
    trained from scratch stands in the row of every start of its model.

    Args:
        groups: of `grouped`.
    """
    found: dict[tuple, Board] = {}
    for group in sorted(groups, key=lambda group: str(_date(group))):
        record = group.newest
        if not isinstance(record, MeasuredRecord) or record.training.track is None:
            continue
        if record.config.tta or record.incomplete:
            continue
        data, metric = record.dataset, main_metric(record)
        if group.mean(metric) is None:
            continue
        title = f"{data.name} {data.split}, {metric_label(metric)}".replace(" ,", ",")
        key = (record.task, metric, data.fingerprint, tuple(record.protocols))
        board = found.setdefault(key, Board(record.task, title))
        column = Column(
            record.training.track, head(record), record.training.length, _method(record)
        )
        row = model_name(record), " + ".join(record.training.origins)
        board.rows.setdefault(row, {})[column] = entry(group)
    for board in found.values():
        _share_scratch(board)
        columns = {column for cells in board.rows.values() for column in cells}
        board.columns = sorted(columns, key=_order)
        board.rows = dict(sorted(board.rows.items(), key=_by_size))
    tracks = {column.track for board in found.values() for column in board.columns}
    return list(found.values()) if len(tracks) > 1 else []


def correlations(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """How alike two columns rank the models that both have, of any tests.

    Args:
        boards: of `boards`.

    Returns:
        For each pair of columns with `LEAST_MODELS` models or more ``one`` and
        ``other``, each a board's title and a column; ``models``, their number; ``tau``
        (Kendall's tau-b) with ``p`` of no relation, exact without ties; ``rho``
        (Spearman's). Pairs that rank nothing, as of equal figures, are left out.
    """
    columns = [(board, column) for board in boards for column in board.columns]
    found = []
    for (one, column), (other, against) in combinations(columns, 2):
        left, right = _by_model(one.of(column)), _by_model(other.of(against))
        models = sorted(left.keys() & right.keys())
        if len(models) < LEAST_MODELS:
            continue
        x, y = [left[name] for name in models], [right[name] for name in models]
        if len(set(x)) == 1 or len(set(y)) == 1:
            continue
        tau = kendalltau(x, y)
        found.append(
            {
                "one": (one.title, column),
                "other": (other.title, against),
                "models": len(models),
                "tau": float(tau.statistic),
                "p": float(tau.pvalue),
                "rho": float(spearmanr(x, y).statistic),
            }
        )
    return found


def _by_model(figures: dict[tuple[str, str], float]) -> dict[str, float]:
    """Figures by model, of those that a column has from one start alone."""
    names = [name for name, _ in figures]
    return {
        name: value for (name, _), value in figures.items() if names.count(name) == 1
    }


def _share_scratch(board: Board) -> None:
    """Put what has no start beside what has one."""
    for row in list(board.rows):
        name, origin = row
        others = [one for one in board.rows if one[0] == name and one[1]]
        if not origin and others:
            for one in others:
                board.rows[one] = {**board.rows[row], **board.rows[one]}
            del board.rows[row]


def _method(record: MeasuredRecord) -> str:
    """As "dino-4scale" of "revcol-t_dino-4scale-frozen_8xb2-12e_coco"."""
    _, _, rest = record.config.name.partition("_")
    method = rest.partition("_")[0]
    for track in TRACKS:
        method = method.removesuffix(f"-{track}")
    return method


def _date(group: Group) -> Any:
    return getattr(group.newest, "date", "")


def _by_size(row: tuple[tuple[str, str], dict[Column, dict[str, Any]]]) -> tuple:
    (name, origin), cells = row
    one = next(iter(cells.values()))
    return one["family"], one["params"], name, origin


def _order(column: Column) -> tuple:
    place = TRACKS.index(column.track)
    return column.head, column.method, column.length, place
