"""Run a program without a service: its calls go to the default ledger, and what they cost is printed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

import click
import msgspec

from .. import environment
from ..client.runs import Run, leave_ended_runs_to_ledger
from ..client.spool import Spool, ledger_spool
from .spending_table import remarks, spending_table

if TYPE_CHECKING:
    from types import FrameType

    from ..call import Call
    from ..service.ledger.base import Ledger, Totals

_COLLECT_SECONDS: Final = 2.0
_BATCH_CALLS: Final = 1000
_FORWARDED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_FROM_TERMINAL: Final = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to all processes in the foreground, so also to the program."""
_DUMPS_CORE: Final = ("SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS")


def run_locally(command: Sequence[str], variables: Mapping[str, str], *, quiet: bool) -> int:
    """Run a command, keep the calls of its Python processes, and print what they cost to standard error.

    Args:
        command: the command and its arguments.
        variables: its environment.
        quiet: whether to print nothing.

    Returns:
        The exit status of the command; minus the number of the signal that ended it.

    Raises:
        OSError: if the command cannot be run.
    """
    try:
        run = Run()
    except OSError as error:
        click.echo(f"llm-exporter: calls are not kept: {error}", err=True)
        return _run(command, variables)
    collector = Collector(run)
    try:
        ended = threading.Event()
        collecting = threading.Thread(target=collector.collect_until, args=(ended,), daemon=True)
        with _started(command, {**variables, environment.KEEP.name: str(run.directory)}) as process:
            collecting.start()
            status = process.wait()
        ended.set()
        collecting.join()
    finally:
        run.end()
    if not quiet:
        with suppress(OSError):  # nobody may be reading any more
            click.echo("\n".join(collector.summary()), err=True)
    return status


def exit_like(status: int) -> NoReturn:
    """End this process as the command ended: with its exit status, or by the same signal."""
    if status >= 0:
        sys.exit(status)
    if signal.Signals(-status).name not in _DUMPS_CORE:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(128 - status)


def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    with _started(command, variables) as process:
        return process.wait()


@contextmanager
def _started(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command, and forward signals to it until the end of the block."""
    forwarding = _Forwarding()
    before = {
        number: signal.signal(number, forwarding.handle)
        for name in _FORWARDED
        if (number := getattr(signal, name, None)) and signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        process = subprocess.Popen(command, env=variables)  # noqa: S603  # the user's own command
        forwarding.begin(process)
        yield process
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Forwarding:
    """Forwards signals to a process."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []
        """Signals from before the process was started."""

    def handle(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if self._process is None:
            self._early.append(number)
        elif signal.Signals(number).name not in _FROM_TERMINAL or not _in_foreground():
            self._process.send_signal(number)

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Forward signals to this process."""
        self._process = process
        for number in self._early:
            process.send_signal(number)


def _in_foreground() -> bool:
    """Return whether a terminal sends its signals to this process, and to the program in its group."""
    if not hasattr(os, "tcgetpgrp"):
        return True  # Windows sends them to all processes of a console
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)


class Collector:
    """Takes the calls of a run from its spool into the default ledger, and adds them up.

    A service may be writing to that ledger. Then the calls go to the spool that the service reads.

    Args:
        run: the run.
    """

    def __init__(self, run: Run) -> None:
        self._spool = Spool(run.directory, self._count_unreadable)
        self._totals: dict[tuple[str, str], Totals] = {}
        """By model and agent."""
        self._stored: set[str] = set()
        """The ids of calls in a file that is read again, since later calls in it could not be stored."""
        self._unreadable = 0
        self._problem = ""

    def collect_until(self, ended: threading.Event) -> None:
        """Collect from time to time until an event is set, and then once more. Never raises."""
        leave_ended_runs_to_ledger()
        while not ended.wait(_COLLECT_SECONDS):
            self.collect()
        self.collect()

    def collect(self) -> None:
        """Collect the calls that are there now. Those that cannot be stored stay there. Never raises."""
        from ..service.ledger.base import LedgerError  # noqa: PLC0415  # while the program runs

        try:
            with ExitStack() as open_files:
                storing = _Storing(open_files)
                for calls in self._spool.waiting(_BATCH_CALLS):
                    storing.store(calls)
                    self._add_up(calls)
                self._stored.clear()
                storing.store_waiting()
        except (LedgerError, OSError) as error:
            self._problem = str(error)
        else:
            self._problem = ""

    def _add_up(self, calls: Sequence[Call]) -> None:
        from ..service.ledger.base import Totals, totals_of  # noqa: PLC0415

        for call in calls:
            if call.id not in self._stored:
                self._totals.setdefault((call.model, call.agent), Totals()).add(totals_of(call))
        self._stored.update(call.id for call in calls)

    def _count_unreadable(self, number: int) -> None:
        self._unreadable += number

    def summary(self) -> Iterator[str]:
        """Yield lines about the calls of the run."""
        from ..service.ledger.store import default_store  # noqa: PLC0415
        from ..service.reports import fields  # noqa: PLC0415

        if self._unreadable:
            yield f"llm-exporter: {self._unreadable} calls could not be read"
        if self._problem:
            yield f"llm-exporter: the last calls are not in the ledger yet: {self._problem}"
        if not self._totals:
            yield "llm-exporter: no LLM calls"
            return
        rows = [
            {"model": model, "agent": agent, **fields(totals)}
            for (model, agent), totals in sorted(
                self._totals.items(), key=lambda item: (-item[1].cost_usd, -item[1].calls, item[0])
            )
        ]
        yield ""
        yield from spending_table(("model", "agent"), rows)
        yield from remarks(rows)
        yield f"Kept in {default_store()}: see `llm-exporter report` or `llm-exporter serve`."


def collect_ended_runs() -> None:
    """Store the calls of earlier runs that are in no ledger yet, unless a service is about to do it.

    Raises:
        LedgerError: they cannot be stored.
    """
    leave_ended_runs_to_ledger()
    with ExitStack() as open_files:
        _Storing(open_files).store_waiting()


class _Storing:
    """Stores calls in the default ledger, which is opened for the first of them.

    Args:
        open_files: closes it.
    """

    def __init__(self, open_files: ExitStack) -> None:
        self._open_files = open_files
        self._ledger: Ledger | None = None
        self._is_in_use = False

    def store(self, calls: Sequence[Call]) -> None:
        """Store calls, or leave them to the service that uses the ledger.

        Raises:
            LedgerError: they cannot be stored.
            OSError: they cannot be left to the service.
        """
        if (ledger := self._opened()) is not None:
            ledger.add(calls)
        else:
            with closing(Spool(ledger_spool()).new_file()) as file:
                file.append(msgspec.json.encode(call) for call in calls)

    def store_waiting(self) -> None:
        """Store the calls that others left for whoever uses the ledger, if no service does.

        Raises:
            LedgerError: they cannot be stored.
        """
        for calls in Spool(ledger_spool()).waiting(_BATCH_CALLS):
            if (ledger := self._opened()) is None:
                return
            ledger.add(calls)

    def _opened(self) -> Ledger | None:
        """Return the ledger; None if another process is writing to it."""
        from ..service.ledger.base import LedgerInUse  # noqa: PLC0415
        from ..service.ledger.store import default_store, open_sqlite  # noqa: PLC0415

        if self._ledger is None and not self._is_in_use:
            try:
                self._ledger = self._open_files.enter_context(
                    closing(open_sqlite(default_store(), patience=0.0))
                )
                # A service charges its budgets again from the calls, which now include these.
                self._ledger.register_rules(())
            except LedgerInUse:
                self._is_in_use = True
        return self._ledger
