"""``tools/leaderboard.py``: the commands over records and their store."""

import json
import shutil
import sys
from argparse import Namespace
from pathlib import Path
from typing import NoReturn

from rich.table import Table
from rich.text import Text

from mmrev.atomic import replacing
from mmrev.console import hushed, line_width, quiet, show
from mmrev.leaderboard.arguments import STORE
from mmrev.leaderboard.groups import selected
from mmrev.leaderboard.published import published_records
from mmrev.leaderboard.record import SCHEMA, MeasuredRecord, Record
from mmrev.leaderboard.store import (
    UncheckedError,
    load_records,
    read_record,
    save_record,
)
from mmrev.leaderboard.table import differences, facts, markdown, terminal
from mmrev.text import printable

__all__ = ["run"]


def run(args: Namespace) -> None:
    """Run a command; a mistake ends with status 1.

    Args:
        args: of `mmrev.leaderboard.arguments`.
    """
    try:
        _COMMANDS[args.command](args)
    except (OSError, ValueError) as error:
        _fail(str(error))


def _list(args: Namespace) -> None:
    records = _selected(args)
    if args.format == "markdown":
        print(markdown(records, args.task), end="")
    else:
        show(terminal(records, args.task, line_width()))


def _show(args: Namespace) -> None:
    table = Table(box=None, show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in facts(_find(args.record, args)).items():
        table.add_row(Text(name), Text(value))
    show(table)


def _diff(args: Namespace) -> None:
    show(differences(_find(args.record, args), _find(args.other, args)))


def _add(args: Namespace) -> None:
    key, refused = None, False
    if args.sign:
        from mmrev.leaderboard.signing import private_key, sign

        key = private_key(args.sign)
    for path in map(Path, args.files):
        try:
            record = read_record(path)
            if args.predictions == "copy":
                _copy_predictions(record, path, Path(args.store))
            saved = save_record(record, Path(args.store, "records"))
            if key:
                sign(saved, key)
            print(f"added {saved}")
        except (OSError, ValueError) as error:
            refused = True
            _say(f"refused {path}: {error}")
    if refused:
        sys.exit(1)


def _copy_predictions(record: Record, path: Path, store: Path) -> None:
    if not isinstance(record, MeasuredRecord) or record.predictions is None:
        raise ValueError("it has no predictions to copy; test with --out FILE.npz")
    from mmrev.leaderboard.verify import find_file

    check, source = find_file("predictions", record.predictions, path)
    if source is None:
        raise ValueError(f"predictions {check.state}: {check.detail}")
    target = store / "predictions" / f"{record.predictions.sha256}.npz"
    if not target.exists():
        with replacing(target) as part:
            shutil.copyfile(source, part)


def _verify(args: Namespace) -> None:
    from mmrev.leaderboard.verify import Check, files_by_name, verify

    key = None
    if args.public_key:
        from mmrev.leaderboard.signing import check_signature, public_key

        key = public_key(args.public_key)
    records, rejected = load_records(_roots(args))
    earlier = {}
    if any(isinstance(record, MeasuredRecord) for record in records.values()):
        earlier = files_by_name([*args.files, *_roots(args)])
        quiet()
        with hushed():  # mmpretrain reports what it does without
            from mmrev.leaderboard import recompute  # noqa: F401
    table = Table("record", "part", "state", "detail")
    absent = {p: why for p, why in rejected.items() if isinstance(why, UncheckedError)}
    for path, reason in rejected.items():
        state = "not checked" if path in absent else "altered"
        cells = (str(path), "record", state, str(reason))
        table.add_row(*(Text(_one_line(cell)) for cell in cells))
    failed = len(rejected) > len(absent)
    for path, record in records.items():
        checks = verify(record, path, args.files, args.data_root, earlier)
        if key:
            try:
                check_signature(path, key)
                checks.append(Check("signature", "sound"))
            except ValueError as error:
                checks.append(Check("signature", "altered", str(error)))
        for number, check in enumerate(checks):
            cells = ("" if number else path.name, check.what, check.state, check.detail)
            last = number == len(checks) - 1
            table.add_row(*(Text(_one_line(cell)) for cell in cells), end_section=last)
            failed |= check.state == "altered"
    if not table.row_count:
        _fail("no record to verify")
    for column in table.columns:
        column.overflow = "fold"
    show(table)
    if failed:
        _fail("not everything is as its record says")
    # Beside records other files may lie; what was asked for by name is to be one.
    for path in map(Path, args.roots):
        if path in absent:
            _fail(f"{path}: {absent[path]}")


def _build(args: Namespace) -> None:
    from mmrev.leaderboard.site import build

    files = build(_selected(args), args.out)
    print(f"{args.out}: {len(files)} files")


def _schema(args: Namespace) -> None:
    print(json.dumps(SCHEMA.json_schema(), indent=2))


def _roots(args: Namespace) -> list[str]:
    if args.roots:
        return args.roots
    return [root for root in ("work_dirs", STORE) if Path(root).is_dir()]


def _all(args: Namespace) -> list[Record]:
    """The records of the folders, then the published ones."""
    records, rejected = load_records(_roots(args))
    for path, reason in rejected.items():
        _say(f"skipped {path}: {reason}")
    found = {record.id: record for record in records.values()}
    found |= {record.id: record for record in published_records()}
    return list(found.values())


def _selected(args: Namespace) -> list[Record]:
    params = args.params and tuple(args.params)
    wanted = (args.task, args.dataset, args.family, args.kind, params)
    records = selected(_all(args), *wanted)
    if not records:
        _fail(
            f"no record in {' '.join(_roots(args)) or 'work_dirs'} that was asked for; "
            "run tools/test.py first, or ask for --kind all"
        )
    return records


def _find(wanted: str, args: Namespace) -> Record:
    if Path(wanted).is_file():
        return read_record(wanted)
    found = [record for record in _all(args) if record.id.startswith(wanted)]
    if len(found) != 1:
        _fail(f"expected a file or the beginning of one id, got {wanted}: {len(found)}")
    return found[0]


def _one_line(text: str) -> str:
    """Nothing of a foreign file may steer the terminal or fill it."""
    text = printable(text)
    return text if len(text) <= 500 else f"{text[:500]}..."


def _say(text: str) -> None:
    print(_one_line(text), file=sys.stderr)


def _fail(text: str) -> NoReturn:
    sys.exit(f"error: {_one_line(text)}")


_COMMANDS = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "add": _add,
    "verify": _verify,
    "build": _build,
    "schema": _schema,
}
