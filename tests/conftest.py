"""Fixtures: a separate pipeline for each test, and a provider to call."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from logging import LogRecord
from pathlib import Path

import pytest

import llm_exporter
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from support.metered import Metered
from support.scripted import Server

TESTS = Path(__file__).parent
QUICK = ("client", "metrics", "taps", "wire", "budgets", "config", "pricing")
"""Directories whose tests start few servers or none. The quickest are last."""


def pytest_configure() -> None:
    """Have the programs that tests run be ended by signals, also if the tests run as a background job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests that wait for servers first, in files that take up to a minute.

    pytest-xdist distributes files in this order. If a slow one came last, a worker would wait for the other.
    """

    def rank(item: pytest.Item) -> int:
        directory = item.path.relative_to(TESTS).parts[0]
        return QUICK.index(directory) + 1 if directory in QUICK else 0

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the tests: to look through thousands of them takes a second each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Print a measured figure below the test results."""
    return lambda text: record_property("figure", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in report.user_properties:
                if name == "figure":
                    terminalreporter.write_line(f"{report.location[2]}: {text}")


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[LogRecord]]:
    """Return the records that llm-exporter has logged so far.

    Other loggers are left out: asyncio complains when a client that an earlier test left behind is collected.
    """
    return lambda: [record for record in caplog.records if record.name == "llm_exporter"]


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    """A separate pipeline, which the public functions and the taps use in this test."""
    pipeline = Pipeline()
    before = default.replace(pipeline)
    yield pipeline
    default.replace(before)
    pipeline.close()


@pytest.fixture
def metered(pipeline: Pipeline) -> Iterator[Metered]:
    """The calls of this test. Afterwards, none may be in flight and nothing may have failed in our code."""
    metered = Metered(pipeline)
    yield metered
    assert metered.total("llm_calls_in_flight") == 0
    assert metered.samples("llm_exporter_errors_total") == {}


@pytest.fixture
def server() -> Iterator[Server]:
    """A provider that responds with what the test scripts."""
    with Server() as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_is_metered_by_default() -> Iterator[None]:
    yield
    llm_exporter.uninstrument()
