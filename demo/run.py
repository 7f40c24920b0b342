"""The demo from beginning to end: the workload, its stand-in provider, `/metrics`, and who looks at them."""

from __future__ import annotations

import asyncio
import errno
import logging
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

from llm_exporter import start_http_server, subscribe, unsubscribe
from llm_exporter.client.default import pipeline
from llm_exporter.config.model import Config
from llm_exporter.metrics.http import MetricsServer
from tools.binaries import BinaryUnavailable
from tools.stack import Grafana, Prometheus, start_stack

from .history import DAY, BackfillFailed, Continued, Month, backfill
from .provider import Provider
from .tally import Tally
from .workload import work

SCRAPE_SECONDS: Final = 2.0
"""Less than in prometheus/prometheus.yml: with one Prometheus, a demo of twenty seconds may show its costs
after the second scrape."""
RATE_LIMITED_EVERY: Final = 8
OVERLOADED_EVERY: Final = 13
"""Requests of one wire format: often enough to be seen, rare enough that a second try succeeds."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_CLEAR_LINE: Final = "\r\033[K"


def run(
    *, duration: float | None, host: str, port: int, stack: bool, speed: float, history: float | None = None
) -> None:
    """Run the demo until its time is over, or SIGINT or SIGTERM ends it, and print what was spent.

    Args:
        duration: seconds that the workload runs; None for no end.
        host: address that `/metrics` is served on.
        port: its TCP port; 0 lets the system choose.
        stack: whether to start Prometheus, Alertmanager and Grafana, as far as they can be had.
        speed: how many times as fast as the real providers the stand-in answers.
        history: seconds of a sample past that Prometheus begins with.

    Raises:
        click.ClickException: when `/metrics` cannot be served there.
    """
    _log_to_stderr()
    pipeline().configure(Config(scrape_interval=SCRAPE_SECONDS))
    tally = Tally()
    with _ended_by_signals(), ExitStack() as running:
        server = _serve_metrics(host, port)
        running.callback(server.close)
        target = f"{_reachable(host)}:{server.port}"
        click.echo(f"metrics       http://{target}/metrics")
        if stack:
            running.enter_context(_watched(target, history))
        subscribe(tally.add)
        provider = running.enter_context(
            Provider(speed=speed, rate_limited_every=RATE_LIMITED_EVERY, overloaded_every=OVERLOADED_EVERY)
        )
        working = running.enter_context(_at_work(provider))
        # The first thing at the end: nothing may break off the rest of it.
        running.callback(_ignore_signals)
        click.echo(
            "The agents are at work: Ctrl-C ends it." if duration is None else "The agents are at work."
        )
        _show_progress(working, tally, duration)
    pipeline().flush()
    unsubscribe(tally.add)
    click.echo(f"\n{tally.table()}")
    if tally.total.unpriced:
        click.echo(f"No price is known for {tally.total.unpriced:,} of the tokens.")


def _serve_metrics(host: str, port: int) -> MetricsServer:
    try:
        return start_http_server(port, host)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            message = f"port {port} of {host} is taken: end what listens there, or choose another with --port"
        else:
            message = f"cannot serve metrics on port {port} of {host}: {error.strerror or error}"
        raise click.ClickException(message) from None


def _reachable(host: str) -> str:
    """Return where this machine reaches a server that listens on an address, which may be all of its own."""
    if host in ("0.0.0.0", ""):  # noqa: S104  # compared, not listened on
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host


@contextmanager
def _watched(target: str, history: float | None) -> Iterator[None]:
    """Have the servers that can be had watch the metrics of `host:port`, after a sample past."""
    with ExitStack() as running:
        directory = Path(
            running.enter_context(
                tempfile.TemporaryDirectory(prefix="llm-exporter-demo-", ignore_cleanup_errors=True)
            )
        )
        others = [running.enter_context(_past(history, directory))] if history else []
        stack = running.enter_context(start_stack(exporter=target, others=others, directory=directory))
        for server in stack.servers:
            url = server.overview if isinstance(server, Grafana) else server.url
            click.echo(f"{server.name:<13} {url}")
        for reason in stack.missing:
            click.echo(f"not started   {reason.splitlines()[0]}")
        yield


@contextmanager
def _past(seconds: float, directory: Path) -> Iterator[str]:
    """Fill the storage of a Prometheus that is to start; yield the address where the past goes on."""
    click.echo(f"history       {seconds / DAY:g} days, which take a minute or two to make up")
    month = Month(seconds / DAY, time.time())
    try:
        backfill(month, directory, directory / Prometheus.data)
    except (BackfillFailed, BinaryUnavailable) as error:
        raise click.ClickException(str(error)) from None
    with Continued(month) as page:
        yield page.address


@contextmanager
def _at_work(provider: Provider) -> Iterator[Future[None]]:
    """Run the workload on a thread of its own; in the end its calls under way end quickly, not half-way."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="workload") as pool:
        try:
            yield pool.submit(lambda: asyncio.run(work(provider.url, stop)))
        finally:
            stop.set()
            provider.hurry()


def _show_progress(working: Future[None], tally: Tally, duration: float | None) -> None:
    """Say how far it has got until the time is over; raises what the workload raises."""
    live = sys.stdout.isatty()
    interval = 0.25 if live else 5.0
    began = time.monotonic()
    while duration is None or time.monotonic() - began < duration:
        left = interval if duration is None else began + duration - time.monotonic()
        if wait([working], timeout=min(interval, max(left, 0))).done:
            return working.result()
        spent = tally.total
        line = (
            f"{time.monotonic() - began:5.0f} s  {spent.calls:,} calls, {spent.errors:,} failed  "
            f"{spent.tokens:,} tokens  ${spent.usd:.4f}"
        )
        click.echo(f"{_CLEAR_LINE}{line}" if live else line, nl=not live)
    return None


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM end the block early, which is no error."""
    before = {number: signal.signal(number, _interrupt) for number in _SIGNALS}
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _log_to_stderr() -> None:
    start = _CLEAR_LINE if sys.stderr.isatty() else ""
    logging.basicConfig(format=f"{start}%(message)s")
    logging.getLogger("llm_exporter").setLevel(logging.INFO)
