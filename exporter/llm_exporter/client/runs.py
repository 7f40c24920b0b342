"""The spools of `llm-exporter run`: each run has one of its own, so that its calls can be told apart."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from ..call import new_id
from ..file_lock import lock
from ..log import log
from ..private_files import create_private, make_private_directory, names_in
from .spool import ledger_spool, spools

_LOCK: Final = "lock"
"""The file in the spool of a run that is locked as long as the run lasts."""


class Run:
    """The spool of a run that has begun, which is left to this process until it ends.

    Raises:
        OSError: if it cannot be made.
    """

    def __init__(self) -> None:
        name = new_id()
        made = _runs() / f".{name}"  # nobody looks into it before it is locked
        make_private_directory(made)
        self._lock = create_private(made / _LOCK)
        lock(self._lock)
        self.directory = made.rename(_runs() / name)

    def end(self) -> None:
        """Remove the spool, or leave the calls in it that children of the run are still writing."""
        _remove(self.directory)
        self._lock.close()


def leave_ended_runs_to_ledger() -> None:
    """Move what ended runs left, because they were killed or had children that outlived them.

    The calls are then in the spool of the default ledger.
    """
    try:
        for directory in [_runs() / name for name in names_in(_runs()) if not name.startswith(".")]:
            if _has_ended(directory):
                _empty(directory)
    except FileNotFoundError:
        return  # there are none, or another process was faster
    except OSError as error:
        log.warning("llm-exporter: cannot move the calls of an earlier run: %s", error)


def _runs() -> Path:
    return spools() / "runs"


def _has_ended(directory: Path) -> bool:
    try:
        file: IO[bytes] = (directory / _LOCK).open("rb+")
    except FileNotFoundError:
        return True
    with file:
        return lock(file)


def _empty(directory: Path) -> None:
    names = [name for name in names_in(directory) if name != _LOCK]
    if names:
        make_private_directory(ledger_spool())
    for name in names:
        (directory / name).rename(ledger_spool() / name)
    _remove(directory)


def _remove(directory: Path) -> None:
    (directory / _LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # a child has begun another file
        directory.rmdir()
