"""Run the demo: the workload, the stand-in provider, `/metrics` and the servers that read it."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import click

from llm_exporter import environment, start_http_server, subscribe, unsubscribe
from llm_exporter.client.default import pipeline
from llm_exporter.config.model import Config
from llm_exporter.http_url import parse_http_url
from llm_exporter.metrics.server import MetricsServer
from tools.binaries import BinaryUnavailable
from tools.guardian import guard, release
from tools.stack import Grafana, Prometheus, ServerFailed, Service, free_port, start_stack

from .history.backfill import BackfillFailed, backfill
from .history.month import Month
from .history.series import DAY, DECLARED
from .history.server import MonthServer
from .provider import Provider
from .tally import Tally
from .workload import work

SCRAPE_SECONDS: Final = 2.0
"""Shorter than in prometheus/prometheus.yml: new series stay at 0 for one scrape, and a demo of 20 seconds
should show costs."""
RATE_LIMITED_EVERY: Final = 8
OVERLOADED_EVERY: Final = 13
"""Inject a fault into every nth request of a wire format: often enough to see, and retries still succeed."""

_SIGNALS: Final = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_CLEAR_LINE: Final = "\r\033[K"


def run(
    *, duration: float | None, host: str, port: int, stack: bool, speed: float, history: float | None = None
) -> None:
    """Run the demo until its duration is over, or until SIGINT or SIGTERM, and print the spending.

    Args:
        duration: seconds to run the workload; None for no limit.
        host: address to serve `/metrics` on.
        port: TCP port to serve `/metrics` on; 0 picks a free port.
        stack: whether to start Prometheus, Alertmanager and Grafana, if available.
        speed: how much faster than the real providers the stand-in responds.
        history: seconds of sample data to fill Prometheus with.

    Raises:
        click.ClickException: when `/metrics` cannot be served, or the sample data cannot be written.
    """
    parent = os.getppid()
    _log_to_stderr()
    pipeline().configure(Config(labels=DECLARED, scrape_interval=SCRAPE_SECONDS))
    tally = Tally()
    with _stopped_by_signals(), ExitStack() as running:
        server = _serve_metrics(host, port)
        running.callback(server.close)
        target = f"{_connectable(host)}:{server.port}"
        click.echo(f"metrics       http://{target}/metrics")
        directory = running.enter_context(_temporary_directory())
        page = environment.URL.value or running.enter_context(_live_page(directory))
        if stack:
            running.enter_context(_servers(target, page, directory, history))
        click.echo(f"\nOpen this:    {parse_http_url(page)}/\n")
        subscribe(tally.add)
        provider = running.enter_context(
            Provider(speed=speed, rate_limited_every=RATE_LIMITED_EVERY, overloaded_every=OVERLOADED_EVERY)
        )
        working = running.enter_context(_workload(provider))
        # Runs first on exit: a second Ctrl-C must not interrupt the cleanup.
        running.callback(_ignore_signals)
        click.echo(
            "The agents are working. Press Ctrl-C to stop." if duration is None else "The agents are working."
        )
        _show_progress(working, tally, duration, parent)
    pipeline().flush()
    unsubscribe(tally.add)
    click.echo("\n".join(["", tally.table(), *tally.notes()]))


def _serve_metrics(host: str, port: int) -> MetricsServer:
    try:
        return start_http_server(port, host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is already in use; choose another one with --port"
        else:
            message = f"{error.strerror or error}"
        raise click.ClickException(message) from None


def _connectable(host: str) -> str:
    """Return the address to connect to for a server that listens on `host`, which may be a wildcard."""
    if host in ("0.0.0.0", ""):  # noqa: S104  # compared, not listened on
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="llm-exporter-demo-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        guard(directory)
        yield directory
    release(directory)


@contextmanager
def _live_page(directory: Path) -> Iterator[str]:
    """Run the service, ship calls to it, and yield its URL."""
    os.environ[environment.SPOOL.name] = str(directory / "spool")
    try:
        service = Service.start(storage=directory, port=free_port(Service.default_port))
    except ServerFailed as error:
        raise click.ClickException(str(error)) from None
    with service:
        pipeline().ship_to(service.url)
        try:
            yield service.url
        finally:
            pipeline().close()


@contextmanager
def _servers(target: str, page: str, directory: Path, history: float | None) -> Iterator[None]:
    """Run the available servers, which scrape `target` (`host:port`), after filling in sample data."""
    with ExitStack() as running:
        others = [running.enter_context(_sample_history(history, directory))] if history else []
        live_page = page.partition("://")[2]
        stack = running.enter_context(
            start_stack(
                exporter=target, others=others, directory=directory, live_page=live_page, labels=DECLARED
            )
        )
        for server in stack.servers:
            url = server.overview if isinstance(server, Grafana) else server.url
            click.echo(f"{server.name:<13} {url}")
        for reason in stack.missing:
            click.echo(f"not started   {reason.splitlines()[0]}")
        yield


@contextmanager
def _sample_history(seconds: float, directory: Path) -> Iterator[str]:
    """Fill the storage that Prometheus will use; yield the address that continues the sample data."""
    month = Month(seconds / DAY, time.time())
    progress = _HistoryProgress(seconds / DAY)
    try:
        backfill(month, directory, directory / Prometheus.data, progress)
        progress.end()
    except (BackfillFailed, BinaryUnavailable) as error:
        raise click.ClickException(str(error)) from None
    with MonthServer(month) as server:
        yield server.address


class _HistoryProgress:
    """Shows how much of the sample data is generated."""

    def __init__(self, days: float) -> None:
        self._days = days
        self._live = sys.stdout.isatty()
        self._next = 0.0
        self(0.0)

    def __call__(self, part: float) -> None:
        """Show a part from 0 to 1: always in a terminal, otherwise every tenth."""
        if self._live or part >= self._next:
            self._next = math.floor(part * 10) / 10 + 0.1
            line = f"history       {part:4.0%} of {self._days:g} days of sample data"
            click.echo(f"{_CLEAR_LINE}{line}" if self._live else line, nl=not self._live)

    def end(self) -> None:
        """End the line."""
        if self._live:
            click.echo()


@contextmanager
def _workload(provider: Provider) -> Iterator[Future[None]]:
    """Run the workload on a separate thread. On exit, let pending calls finish without delays."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="workload") as pool:
        try:
            yield pool.submit(lambda: asyncio.run(work(provider.url, stop)))
        finally:
            stop.set()
            provider.skip_delays()


def _show_progress(working: Future[None], tally: Tally, duration: float | None, parent: int) -> None:
    """Print the progress until the duration is over or the parent process is gone.

    Raises the error of the workload, if any.
    """
    live = sys.stdout.isatty()
    interval = 0.25 if live else 5.0
    began = time.monotonic()
    while duration is None or time.monotonic() - began < duration:
        if os.getppid() != parent and signal.SIGHUP in _handled():
            return None  # `make` was killed
        left = interval if duration is None else began + duration - time.monotonic()
        if wait([working], timeout=min(interval, max(left, 0))).done:
            return working.result()
        total = tally.total
        line = (
            f"{time.monotonic() - began:5.0f} s  {total.calls:,} calls, {total.errors:,} failed  "
            f"{total.tokens:,} tokens  ${total.usd:.4f}"
        )
        click.echo(f"{_CLEAR_LINE}{line}" if live else line, nl=not live)
    return None


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Leave the block at the first SIGINT or SIGTERM."""
    before = {number: signal.signal(number, _interrupt) for number in _handled()}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handled() -> list[int]:
    """Return the signals that end the demo. `nohup` has it ignore SIGHUP."""
    hup = getattr(signal, "SIGHUP", None)
    return [number for number in _SIGNALS if number != hup or signal.getsignal(hup) is not signal.SIG_IGN]


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _log_to_stderr() -> None:
    start = _CLEAR_LINE if sys.stderr.isatty() else ""
    logging.basicConfig(format=f"{start}%(message)s")
