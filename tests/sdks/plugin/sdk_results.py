"""Pytest plugin for the SDKs' own tests: meters their clients, and writes the result of each test to a file.

The runner sets these environment variables:

- SDK_RESULTS: the file to write;
- SDK_METERED: the configuration file of llm-exporter; empty or absent for a run without llm-exporter.

A connection to another machine fails at once, so that results are the same with and without a network.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

_LOG = logging.getLogger("llm_exporter")


class _OwnErrors(logging.Handler):
    """Collects the errors that llm-exporter logs, which are all errors of its own code."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(logging.Formatter().format(record))


class Results:
    """The results of this process's tests, and of its workers'."""

    def __init__(self, path: Path, config: str) -> None:
        self._path = path
        self._config = config
        self._tests: dict[str, dict[str, Any]] = {}
        self._calls = 0
        self._own_errors = _OwnErrors()

    def pytest_sessionstart(self) -> None:
        """Meter every client."""
        if self._config:
            import llm_exporter

            _LOG.addHandler(self._own_errors)
            llm_exporter.configure(self._config)
            llm_exporter.instrument()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Any:
        """Attach the errors of llm-exporter to the report of the test."""
        report = yield
        if call.when == "teardown" and self._config:
            from llm_exporter.client import default

            default.pipeline().flush()
            # xdist sends a report's attributes to the process that runs the others.
            report.own_errors, self._own_errors.messages = self._own_errors.messages, []
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note how a test ended: its call decides, unless its setup or teardown fails."""
        test = self._tests.setdefault(report.nodeid, {"status": "missing"})
        if report.outcome != "passed" or report.when == "call":
            status = report.outcome
            if hasattr(report, "wasxfail"):
                status = "xfailed" if report.outcome == "skipped" else "failed"
            elif report.failed and report.when != "call":
                status = "error"
            if status not in {"passed", "skipped"} or test["status"] == "missing":
                test.update(status=status, message="" if status == "passed" else str(report.longrepr)[-4000:])
        if errors := getattr(report, "own_errors", None):
            test["own_errors"] = errors

    def pytest_collectreport(self, report: Any) -> None:
        """Note a file that cannot be imported as a test with an error."""
        if report.failed:
            self._tests[report.nodeid] = {"status": "error", "message": str(report.longrepr)[-4000:]}

    def pytest_testnodedown(self, node: Any) -> None:
        """Add the calls of a worker of xdist."""
        self._calls += getattr(node, "workeroutput", {}).get("metered_calls", 0)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the results. A worker of xdist hands its number of calls on instead."""
        calls = self._metered_calls()
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["metered_calls"] = calls
            return
        results = {"calls": self._calls + calls, "tests": self._tests}
        self._path.write_text(json.dumps(results))

    def _metered_calls(self) -> float:
        """Return how many calls this process has metered."""
        if not self._config:
            return 0
        from llm_exporter.client import default

        return sum(
            sample.value
            for family in default.pipeline().registry.collect()
            for sample in family.samples
            if sample.name in {"llm_calls_total", "llm_exporter_unread_requests_total"}
        )


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin."""
    sys.addaudithook(_refuse_other_machines)
    results = Results(Path(os.environ["SDK_RESULTS"]), os.environ.get("SDK_METERED", ""))
    config.pluginmanager.register(results, "sdk-results")


def _refuse_other_machines(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if not _is_here(host.decode() if isinstance(host, bytes) else host or ""):
        raise OSError(f"connections to other machines are off in these tests: {host}")


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in {"", "localhost"} or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified
