"""`llm-exporter report` and `export`, from a ledger and from a running service."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from llm_exporter.cli.main import main
from llm_exporter.service import reports
from llm_exporter.service.ledger.base import Query
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call
from support.served import Served


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


CALLS = [
    a_call(id="1", started=at("2026-01-31T23:59:59"), labels={"agent": "coder", "tier": "gold"}),
    a_call(id="2", started=at("2026-02-01T00:00:00"), labels={"agent": "coder"}, model="gpt-5-mini"),
    a_call(id="3", started=at("2026-02-01T00:00:00"), labels={"agent": "planner"}, error="timeout"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("client"))
    ledger = SqliteLedger(served.ledger)
    ledger.add(CALLS)
    ledger.close()
    with served:
        yield served


@pytest.fixture(params=["ledger", "service"])
def source(request: pytest.FixtureRequest, served: Served) -> list[str]:
    """The options for the source: the ledger beside the running service, or the service."""
    return ["--store", str(served.ledger)] if request.param == "ledger" else ["--url", served.url]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def test_a_report_is_a_table_by_dimension_and_period(source: list[str]) -> None:
    result = run("report", "--by", "agent,model", "--period", "month", *source)
    assert result.output == (
        "month                     agent    model       calls  errors  input_tokens  output_tokens     USD\n"
        "2026-01-01T00:00:00.000Z  coder    gpt-5           1       0           100             20  0.7500\n"
        "2026-02-01T00:00:00.000Z  coder    gpt-5-mini      1       0           100             20  0.7500\n"
        "2026-02-01T00:00:00.000Z  planner  gpt-5           1       1           100             20  0.7500\n"
        "total                                              3       1           300             60  2.2500\n"
    )


@pytest.mark.parametrize("label", ["tier:gold", "tier=gold"])
def test_a_report_can_be_json(source: list[str], label: str) -> None:
    result = run("report", "--by", "tier", "--label", label, "--json", *source)
    assert json.loads(result.output) == [
        {
            "tier": "gold",
            "calls": 1,
            "errors": 0,
            "cost_usd": 0.75,
            "input_tokens": 100,
            "output_tokens": 20,
            "unpriced_tokens": 0,
            "approximated_tokens": 0,
        }
    ]


def test_a_report_says_how_many_tokens_have_no_price_or_an_approximate_cost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    ledger.add(
        [
            a_call(approximated={"tier": 120}),
            a_call(model="gpt-5-mini", tokens={"input": 1000}, approximated={"region": 1000}),
            a_call(model="zebra-9", cost={}, unpriced_tokens=120),
        ]
    )
    ledger.close()
    result = run("report", "--store", str(path))
    assert result.stderr == "120 tokens have no known price.\n1,120 tokens have an approximate cost.\n"


def older(response: object) -> object:
    """Return a response as an older service sends it, without the newer fields."""
    if isinstance(response, dict):
        newer = "approximated", "approximated_tokens", "region", "route"
        return {name: older(value) for name, value in response.items() if name not in newer}
    return [older(each) for each in response] if isinstance(response, list) else response


def test_an_older_service_is_queried(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = msgspec.json.decode
    monkeypatch.setattr(msgspec.json, "decode", lambda *args, **kwargs: older(decode(*args, **kwargs)))
    result = run("report", "--url", served.url)
    assert result.exit_code == 0
    assert "total" in result.output
    lines = list(csv.DictReader(io.StringIO(run("export", "--url", served.url).output)))
    assert [(line["id"], line["approximated"], line["route"]) for line in lines] == [
        ("3", "", ""),
        ("2", "", ""),
        ("1", "", ""),
    ]


def test_calls_are_exported_as_csv_or_json_lines(source: list[str]) -> None:
    lines = list(csv.DictReader(io.StringIO(run("export", *source).output)))
    assert [(line["id"], line["agent"], line["cost_usd"]) for line in lines] == [
        ("3", "planner", "0.75"),
        ("2", "coder", "0.75"),
        ("1", "coder", "0.75"),
    ]
    result = run("export", "--format", "json", "--since", "2026-02-01", *source)
    assert [json.loads(line)["id"] for line in result.output.splitlines()] == ["3", "2"]


def test_all_pages_are_exported(source: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_exporter.cli.sources._PAGE", 2)
    assert len(run("export", "--format", "json", *source).output.splitlines()) == 3


def test_an_invalid_option_is_named(source: list[str]) -> None:
    result = run("report", "--since", "yesterday", *source)
    assert result.exit_code == 2
    message = "since must be a time such as 2026-01-31T12:00:00Z, or Unix seconds, not 'yesterday'"
    assert message in result.output


def test_a_label_that_no_call_has_is_an_error(source: list[str]) -> None:
    result = run("report", "--by", "agent,nosuch", *source)
    known = "provider, model, operation, agent, phase, project, session"
    message = f"Error: --by nosuch: no call has this label: use {known} or a label\n"
    assert (result.exit_code, result.stderr, result.stdout) == (2, message, "")
    result = run("report", "--by", "modle", *source)
    assert result.stderr == "Error: --by modle: no call has this label: did you mean model?\n"
    # Some call has it, though none of those that are selected.
    assert run("report", "--by", "tier", "--label", "agent=planner", *source).exit_code == 0


def test_without_the_default_ledger_a_report_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    result = run("report")
    hint = "meter a program with `llm-exporter run`, start `llm-exporter serve`, or set --url"
    path = tmp_path / "DATA/llm-exporter/ledger.db"
    assert (result.exit_code, result.stderr) == (2, f"Error: {path}: no such ledger: {hint}\n")


def test_sums_have_no_rounding_errors(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqliteLedger(path)
    ledger.add([a_call(cost={"input": 0.1, "output": 0.2})])
    assert 0.1 + 0.2 == 0.30000000000000004
    rows = json.loads(run("report", "--store", str(path), "--json").output)
    assert [row["cost_usd"] for row in rows] == [0.3]
    assert '"cost_usd":0.3,' in msgspec.json.encode(reports.cost(ledger, Query())).decode()
    ledger.close()


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    result = run("report", "--store", str(path))
    assert (result.exit_code, result.output) == (2, f"Error: {path}: no such ledger\n")
    result = run("report", "--url", "http://127.0.0.1:9")
    assert (result.exit_code, result.output) == (
        2,
        "Error: http://127.0.0.1:9: [Errno 111] Connection refused\n",
    )
    result = run("report", "--url", "nothing")
    assert result.exit_code == 2
    assert result.output.startswith("Error: LLM_EXPORTER_URL: must begin with http:// or https://")
