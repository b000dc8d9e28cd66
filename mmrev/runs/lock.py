"""One training at a time in a work dir: two would overwrite each other's files."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from mmrev.console import say
from mmrev.errors import UserError
from mmrev.text import printable

__all__ = ["locked"]

_NAME = ".training.lock"


@contextmanager
def locked(work_dir: str | Path) -> Iterator[None]:
    """Keep other trainings out of a work dir.

    The system holds the lock, and lets go of it however this process ends. It is one
    that processes do not inherit, so that no loading worker keeps it for a while.

    Raises:
        UserError: Names the process that trains there.
    """
    path = Path(work_dir, _NAME)
    file = _take(path)
    if file is None:
        yield
        return
    with file:
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(" ", "seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _take(path: Path) -> TextIOWrapper | None:
    """The file, opened and locked; None where the file system knows no locks."""
    while True:
        file = open(path, "a+")  # noqa: SIM115  closed by who holds it
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, file):
                return file
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                say(
                    f"{path.parent} cannot be locked ({error.strerror}): see to it "
                    "that nothing else trains there."
                )
                file.close()
                return None
            file.seek(0)
            holder = printable(file.read(200).strip()) or "another process"
            file.close()
            raise UserError(
                f"--work-dir {path.parent}: in use by {holder}; wait until it ends, or "
                "choose another folder. If its machine is gone, and still holds the "
                f"lock on a shared disk, remove {path}."
            ) from None
        # Its holder removed it in between.
        file.close()


def _is_still(path: Path, file: TextIOWrapper) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
