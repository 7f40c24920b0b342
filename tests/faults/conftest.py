"""Collects the rows of the table, prints it, and compares it with docs/faults.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from faults import table
from faults.table import Row

Record = Callable[..., tuple[int, int]]


@pytest.fixture
def record(record_property: Callable[[str, object], None]) -> Record:
    """Add a row to the table, and return how many calls were lost and doubled."""

    def add(
        fault: str,
        tried: str,
        made: Iterable[str],
        kept: Iterable[str],
        *,
        seen: str,
        harm: str = "none",
        lost_at_most: int = 0,
    ) -> tuple[int, int]:
        made = list(made)
        lost, doubled = table.lost_and_doubled(made, kept)
        shown = f"at most {lost_at_most}" if lost_at_most else lost
        record_property("fault", list(Row(fault, tried, len(made), shown, doubled, harm, seen)))
        return lost, doubled

    return add


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add an option."""
    parser.addoption("--write", action="store_true", help="write the table of faults into docs/faults.md")


def _is_complete(config: pytest.Config) -> bool:
    """Return whether a run has every row."""
    directory = Path(__file__).parent
    return not config.option.keyword and [Path(each).resolve() for each in config.args] == [directory]


def _rows(reporter: pytest.TerminalReporter) -> list[Row]:
    """Return the rows of the tests that passed, in the order of the tests in their files."""
    reports = sorted(reporter.getreports("passed"), key=lambda report: (*report.location[:2], report.nodeid))
    return [Row(*value) for report in reports for name, value in report.user_properties if name == "fault"]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the table into the documentation if asked to. Otherwise fail if it differs."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or exitstatus:  # a worker of xdist reports nothing
        return
    rows = _rows(reporter)
    if session.config.option.write:
        if not _is_complete(session.config):
            raise pytest.UsageError("--write needs every test of tests/faults")
        table.write(rows)
    elif table.differs(rows, complete=_is_complete(session.config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the table."""
    rows = _rows(terminalreporter)
    terminalreporter.section("faults")
    terminalreporter.write(table.rendered(rows))
    if table.differs(rows, complete=_is_complete(config)):
        terminalreporter.write_line(
            "docs/faults.md shows another table: make test-faults ARGS=--write", red=True
        )
