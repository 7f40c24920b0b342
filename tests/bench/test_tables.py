"""The benchmarks show a target beside each figure. The figures are not tested: too few calls are made."""

from __future__ import annotations

from importlib import import_module

import pytest

SMALL: dict[str, dict[str, float]] = {
    "calls": {"CALLS": 1, "WARM": 1, "TURNS": 2},
    "streams": {"CHUNKS": 3, "EVENTS": 3, "CALLS": 1, "TURNS": 2},
    "budgets": {"CHECKS": 1, "TURNS": 2},
    "throughput": {"THREADS": 2, "CALLS": 2, "SECONDS": 0.0, "STREAMS": 2, "PAUSE": 0.0, "TURNS": 2},
}


@pytest.mark.parametrize("name", SMALL)
def test_each_figure_is_beside_its_target(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", "")  # which a benchmark sets, is put back
    benchmark = import_module(f"bench.{name}")
    for constant, value in SMALL[name].items():
        monkeypatch.setattr(benchmark, constant, value)
    for table in benchmark.tables():
        rows = [dict(zip(table.head, row, strict=True)) for row in table.rows]
        assert rows
        for row in rows:
            assert row["target"]
            assert row["met"].partition(",")[0] in ("yes", "no")


def test_bytecodes_are_counted_by_module(monkeypatch: pytest.MonkeyPatch) -> None:
    bytecodes = import_module("bench.bytecodes")
    for constant, value in {"WARM": 2, "CALLS": 1, "CHUNKS": 2}.items():
        monkeypatch.setattr(bytecodes, constant, value)
    calls, chunks, modules = ([*table.rows] for table in bytecodes.tables())
    assert len(calls) == len(chunks) == 6
    for name, caller, with_budget, ours in calls:
        assert 0 < number(caller) < number(with_budget), name
        assert number(ours) > 0
    assert {"client.meter", "taps.boundary", "budgets.enforcement"} <= {module for module, *_ in modules}


def number(cell: str) -> int:
    return int(cell.replace(",", ""))
