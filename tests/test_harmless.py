"""Text from outside is harmless in a terminal, in the log and in a spreadsheet."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable
from logging import LogRecord
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_exporter.cli.errors import Usage
from llm_exporter.cli.main import main
from llm_exporter.harmless import csv_cell, one_line
from llm_exporter.log import log
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call

CLEAR_SCREEN = "\x1b[2J"
BIDI_OVERRIDE = "\u202e"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-4o", "gpt-4o"),
        ("Zürich 東京 🙂", "Zürich 東京 🙂"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        (f"{CLEAR_SCREEN}x\x9b31m", r"\x1b[2Jx\x9b31m"),
        (f"{BIDI_OVERRIDE}txt.exe\u2028", r"\u202etxt.exe\u2028"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_does_not_print_is_escaped(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_has_an_apostrophe(text: str) -> None:
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(f"a{text}") == f"a{text}"


@pytest.mark.parametrize("kind", ["export", "report"])
def test_commands_print_no_formula_and_no_escape_sequence(kind: str, tmp_path: Path) -> None:
    labels = {
        "project": "=cmd|' /C calc'!A0",
        "session": "@SUM(1)",
        "agent": f"{BIDI_OVERRIDE}a{CLEAR_SCREEN}",
    }
    ledger = SqliteLedger(tmp_path / "ledger.db")
    ledger.add([a_call(id="-1", model="+gpt", labels=labels)])
    ledger.close()
    by = ["--by", "agent"] if kind == "report" else []
    output = CliRunner().invoke(main, [kind, "--store", str(tmp_path / "ledger.db"), *by]).output
    if kind == "report":
        assert output.splitlines()[1].startswith(r"\u202ea\x1b[2J  ")
        return
    (row,) = csv.DictReader(io.StringIO(output))
    assert (row["id"], row["model"]) == ("'-1", "'+gpt")
    assert (row["project"], row["session"]) == ("'=cmd|' /C calc'!A0", "'@SUM(1)")
    assert row["cost_usd"] == "0.75"


def test_a_text_cannot_forge_a_line_of_the_log(
    caplog: pytest.LogCaptureFixture, said: Callable[[], list[LogRecord]]
) -> None:
    with caplog.at_level(logging.WARNING):
        log.warning("%s: %s: %d", f"a\nERROR forged{CLEAR_SCREEN}", ValueError("b\nforged"), 3)
    assert [record.getMessage() for record in said()] == [r"a\nERROR forged\x1b[2J: b\nforged: 3"]


def test_an_error_of_a_command_keeps_its_lines_only() -> None:
    assert Usage(f"first\nsecond{CLEAR_SCREEN}").format_message() == "first\nsecond\\x1b[2J"


def test_the_text_of_an_exception_cannot_look_like_a_line_of_the_log() -> None:
    """Whoever logs it: here a logger and a handler of the standard library."""
    forged = "ERROR:root:forged"
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    log.logger.addHandler(handler)
    try:
        for line_end in ("\n", "\r", "\r\n", "\v", "\x1c", "\x85", "\u2028"):
            error = ValueError(f"bad{line_end}{forged}\x1b[2J")
            error.add_note(f"note{line_end}{forged}")
            log.error("failed", exc_info=error)
    finally:
        log.logger.removeHandler(handler)
    lines = written.getvalue().splitlines()
    assert sum(forged in line for line in lines) == 14
    assert not any(line.startswith("ERROR") and line != "ERROR:llm_exporter:failed" for line in lines)
    assert all(line.startswith("    ") for line in lines if line != "ERROR:llm_exporter:failed")
    assert "\x1b" not in written.getvalue()
