"""The rows of reports."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from llm_exporter.service import reports
from llm_exporter.service.ledger.base import Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call


def test_more_rows_than_are_sorted_at_a_time_are_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "_SORTED", 2)
    costs = {"ann": 1.0, "bob": 3.0, "cid": 2.0, "dan": 3.0, "eve": 5.0, "fay": 0.5}
    with closing(SqliteLedger(tmp_path / "ledger.db")) as ledger:
        ledger.add([a_call(labels={"user": user}, cost={"output": usd}) for user, usd in costs.items()])
        rows = reports.rows(ledger, Query(), ["user"])
    assert [row["user"] for row in rows] == ["eve", "bob", "dan", "cid", "ann", "fay"]
