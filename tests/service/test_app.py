"""The service over HTTP."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from llm_exporter import Call
from llm_exporter.config.model import Config
from llm_exporter.service import examples, reports
from llm_exporter.service.app import PAGE_FILES, make_app
from llm_exporter.service.bodies import MAX_BODY
from llm_exporter.service.ledger.sqlite import SqliteLedger
from support.calls import a_call

JSON = {"content-type": "application/json"}
ZERO = {
    "calls": 0,
    "errors": 0,
    "cost_usd": 0.0,
    "input_tokens": 0,
    "output_tokens": 0,
    "unpriced_tokens": 0,
    "approximated_tokens": 0,
}


def totals(calls: int, errors: int = 0) -> dict[str, float]:
    """Return the totals of a number of calls like `a_call`."""
    return {
        "calls": calls,
        "errors": errors,
        "cost_usd": 0.75 * calls,
        "input_tokens": 100 * calls,
        "output_tokens": 20 * calls,
        "unpriced_tokens": 0,
        "approximated_tokens": 0,
    }


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "ledger.db")


@pytest.fixture
def client(ledger: SqliteLedger) -> Iterator[TestClient]:
    with TestClient(make_app(Config(), ledger), base_url="http://localhost", headers=JSON) as client:
        yield client


def post(client: TestClient, *calls: Call) -> Any:
    response = client.post("/api/v1/calls", content=msgspec.json.encode(calls))
    assert response.status_code == 200
    return response.json()


def test_calls_are_accepted_plain_gzipped_or_in_an_object(client: TestClient) -> None:
    plain, gzipped, wrapped = a_call(), a_call(), a_call()
    assert post(client, plain, plain) == {"accepted": 1, "duplicates": 1}
    body = gzip.compress(msgspec.json.encode([gzipped]))
    response = client.post("/api/v1/calls", content=body, headers={"content-encoding": "gzip"})
    assert response.json() == {"accepted": 1, "duplicates": 0}
    response = client.post("/api/v1/calls", content=msgspec.json.encode({"calls": [wrapped, plain]}))
    assert response.json() == {"accepted": 1, "duplicates": 1}


def test_cost_is_reported_in_total_and_by_dimension_most_expensive_first(client: TestClient) -> None:
    post(
        client,
        a_call(labels={"agent": "planner", "tier": "gold"}),
        a_call(labels={"agent": "coder", "tier": "gold"}, error="timeout"),
        a_call(labels={"agent": "coder"}, model="gpt-5-mini"),
    )
    cost = client.get("/api/v1/cost", params={"by": "tier", "window": "1h"}).json()
    assert {name: cost[name] for name in ZERO} == totals(3, errors=1)
    assert cost["by_agent"] == [
        {"agent": "coder", **totals(2, errors=1)},
        {"agent": "planner", **totals(1)},
    ]
    assert cost["by_model"] == [
        {"model": "gpt-5", **totals(2, errors=1)},
        {"model": "gpt-5-mini", **totals(1)},
    ]
    assert cost["by_provider"] == [{"provider": "openai", **totals(3, errors=1)}]
    assert cost["by_phase"] == [{"phase": "unattributed", **totals(3, errors=1)}]
    assert cost["by_tier"] == [
        {"tier": "gold", **totals(2, errors=1)},
        {"tier": "unattributed", **totals(1)},
    ]


@pytest.mark.parametrize(
    ("parameters", "calls"),
    [
        ({"since": "2026-01-31T12:00:00Z", "until": "2026-01-31T13:00:00Z"}, 2),
        ({"since": "2026-01-31T13:00:00+01:00", "agent": "coder"}, 1),
        ({"since": "0", "until": str(at("2026-01-31T12:30:00"))}, 1),
        ({"since": "0", "label": "tier:gold"}, 1),
        ({"since": "0", "label": "tier:gold,team:red"}, 0),
        ({"since": "0", "model": "gpt-5", "provider": "openai", "phase": "plan"}, 3),
        ({"since": "0", "session": "s-1"}, 1),
        ({"session": "s-1"}, 1),
    ],
)
def test_calls_are_filtered_by_time_session_and_labels(
    client: TestClient, parameters: dict[str, str], calls: int
) -> None:
    post(
        client,
        a_call(started=at("2026-01-31T12:00:00"), labels={"agent": "coder", "phase": "plan"}),
        a_call(started=at("2026-01-31T12:59:59"), labels={"phase": "plan", "session": "s-1"}),
        a_call(started=at("2026-02-01T00:00:00"), labels={"phase": "plan", "tier": "gold"}),
    )
    assert client.get("/api/v1/cost", params=parameters).json()["calls"] == calls


def test_the_current_session_is_that_of_the_latest_call_and_can_be_reset(client: TestClient) -> None:
    assert client.get("/api/v1/cost").json() == {
        "session": None,
        "since": None,
        "until": None,
        **ZERO,
        "by_model": [],
        "by_agent": [],
        "by_phase": [],
        "by_provider": [],
    }
    post(client, a_call(labels={"session": "s/1"}), a_call())
    assert client.get("/api/v1/cost").json()["session"] == "default"
    post(client, a_call(labels={"session": "s/1"}))
    cost = client.get("/api/v1/cost").json()
    assert (cost["session"], cost["calls"]) == ("s/1", 2)
    assert client.post("/api/v1/sessions/s%2F1/reset").status_code == 204
    assert client.get("/api/v1/cost").json()["calls"] == 0
    post(client, a_call(labels={"session": "s/1"}))
    assert client.get("/api/v1/cost", params={"session": "s/1"}).json()["calls"] == 1
    assert client.get("/api/v1/cost", params={"since": "0"}).json()["calls"] == 4


def test_calls_are_listed_in_pages_newest_first(client: TestClient) -> None:
    calls = [a_call() for _ in range(5)]
    post(client, *calls)
    ids = []
    page: dict[str, Any] = {"next": None}
    for size in (2, 2, 1):
        before = {"before": page["next"]} if page["next"] else {}
        page = client.get("/api/v1/calls", params={"limit": 2, **before}).json()
        assert len(page["calls"]) == size
        ids += [call["id"] for call in page["calls"]]
    assert ids == [call.id for call in reversed(calls)]
    assert page["next"] is None
    first = page["calls"][0]
    assert (first["cost_usd"], first["cost_source"], first["agent"]) == (0.75, "list", "planner")


def test_listed_calls_are_filtered(client: TestClient) -> None:
    """The filters are the same as for cost, in JSON and in CSV."""
    post(
        client,
        a_call(id="c-1", labels={"agent": "coder", "tier": "gold"}, started=at("2026-01-31T12:00:00")),
        a_call(id="c-2", labels={"agent": "coder", "session": "s-1"}, started=at("2026-02-01T00:00:00")),
        a_call(id="c-3", labels={"project": "p"}, operation="embeddings", provider="google"),
    )
    for parameters, ids in [
        ({}, ["c-3", "c-2", "c-1"]),
        ({"agent": "coder"}, ["c-2", "c-1"]),
        ({"agent": "coder", "limit": "1"}, ["c-2"]),
        ({"label": "tier:gold"}, ["c-1"]),
        ({"session": "s-1"}, ["c-2"]),
        ({"session": "s-2"}, []),
        ({"project": "p"}, ["c-3"]),
        ({"project": "default"}, ["c-2", "c-1"]),
        ({"operation": "embeddings", "provider": "google"}, ["c-3"]),
        ({"until": "2026-02-01"}, ["c-1"]),
        ({"before": "3"}, ["c-2", "c-1"]),
    ]:
        listed = client.get("/api/v1/calls", params=parameters).json()["calls"]
        assert [call["id"] for call in listed] == ids, parameters
        lines = client.get("/api/v1/calls", params={**parameters, "format": "csv"}).text
        assert [line["id"] for line in csv.DictReader(io.StringIO(lines))] == ids, parameters


def test_a_label_filter_may_have_commas_colons_and_backslashes(client: TestClient) -> None:
    odd = {"te,am:\\": "a,b:c\\d"}
    post(client, a_call(id="a", labels=odd), a_call(id="b", labels={"team": "red", "tier": "gold"}))
    assert found(client, label=r"te\,am\:\\:a\,b:c\\d") == "a"
    assert found(client, label="team:red, tier:gold,") == "b"
    assert found(client, label="team:red,tier:silver") == ""


def found(client: TestClient, **parameters: Any) -> str:
    """Return the ids of the calls that a search finds, each a single letter."""
    return "".join(call["id"] for call in client.get("/api/v1/calls", params=parameters).json()["calls"])


def test_calls_are_searched_by_text_and_by_failure(client: TestClient) -> None:
    post(
        client,
        a_call(id="a", labels={"agent": "Planner", "team": "red"}),
        a_call(id="b", model="claude-opus", provider="anthropic", error="timeout"),
        a_call(id="c", operation="unread", route="POST /v1/things/{id}", labels={"agent": "red"}),
    )
    assert found(client, search="planner") == "ba"
    assert found(client, search="agent:planner", agent="Planner") == "a"
    assert found(client, search="TEAM:red") == "a"
    assert found(client, search="red") == "ca"
    assert found(client, search=" things ") == "c"
    assert (
        found(client, search="timeout") == found(client, failed="true") == found(client, search="opus") == "b"
    )
    assert found(client, failed="false") == "ca"
    assert found(client, failed="false", search="anthropic") == ""
    assert found(client, label="team:red") == "a"
    assert found(client, search="duration") == ""  # a name in the stored JSON
    csv_text = client.get("/api/v1/calls", params={"search": "opus", "format": "csv"}).text
    assert [line.split(",")[0] for line in csv_text.splitlines()] == ["id", "b"]


def test_a_search_has_pages_and_reads_a_bounded_number_of_calls(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MAX_SEARCHED", 4)
    monkeypatch.setattr(reports, "_READ", 2)
    models = {"a": "rare", "b": "rare", "c": "rare"}
    post(client, *(a_call(id=letter, model=models.get(letter, "gpt-5")) for letter in "abcdefgh"))
    pages = []
    following: dict[str, int] = {}
    for _ in range(3):
        page = client.get("/api/v1/calls", params={"search": "RARE", "limit": 2, **following}).json()
        pages.append("".join(call["id"] for call in page["calls"]))
        following = {"before": page["next"]}
    assert page["next"] is None
    # Four calls are read for the first page, and the second one is full before that.
    assert pages == ["", "cb", "a"]


def test_a_report_sums_up_what_is_beyond_the_most_expensive(client: TestClient) -> None:
    """In all periods together: coder costs most, then planner. The others cost $1.00 + $0.75 and $0.75."""
    first, second = at("2026-01-31T10:59:30"), at("2026-01-31T11:00:00")
    post(
        client,
        a_call(started=first, labels={"agent": "planner"}, cost={"input": 3.0}),
        a_call(started=first, labels={"agent": "small"}, cost={"input": 1.0}),
        a_call(started=first, labels={"agent": "tiny"}),
        a_call(started=second, labels={"agent": "coder"}, cost={"input": 5.0}),
        a_call(started=second, labels={"agent": "tiny"}, error="timeout"),
    )
    params: dict[str, Any] = {
        "by": "agent",
        "period": "hour",
        "top": 2,
        "since": first - 60,
        "until": second + 60,
    }
    rows = client.get("/api/v1/report", params=params).json()["rows"]
    assert [
        (row["hour"][11:16], row["agent"], row["cost_usd"], row["calls"], row["errors"]) for row in rows
    ] == [
        ("10:00", "planner", 3.0, 1, 0),
        ("10:00", None, 1.75, 2, 0),
        ("11:00", "coder", 5.0, 1, 0),
        ("11:00", None, 0.75, 1, 1),
    ]
    rows = client.get("/api/v1/report", params={**params, "period": "minute", "top": 1}).json()["rows"]
    assert [(row["minute"][11:16], row["agent"], row["cost_usd"]) for row in rows] == [
        ("10:59", None, 4.75),
        ("11:00", "coder", 5.0),
        ("11:00", None, 0.75),
    ]
    del params["period"]
    rows = client.get("/api/v1/report", params={**params, "by": "agent,model"}).json()["rows"]
    assert [(row["agent"], row["model"], row["cost_usd"]) for row in rows] == [
        ("coder", "gpt-5", 5.0),
        ("planner", "gpt-5", 3.0),
        (None, None, 2.5),
    ]


def test_calls_are_downloaded_as_csv(client: TestClient) -> None:
    labels = {"agent": 'a "quoted", agent', "project": "p"}
    post(client, a_call(labels=labels, started=at("2026-01-31T12:00:00"), id="c-1"))
    response = client.get("/api/v1/calls", params={"format": "csv"})
    assert response.headers["content-type"].startswith("text/csv")
    assert response.headers["content-disposition"] == 'attachment; filename="llm-calls.csv"'
    ((line),) = csv.DictReader(io.StringIO(response.text))
    assert line["id"] == "c-1"
    assert line["started"] == "2026-01-31T12:00:00.000Z"
    assert line["agent"] == 'a "quoted", agent'
    assert line["project"] == "p"
    assert line["cost_usd"] == "0.75"
    assert json.loads(line["tokens"]) == {"input": 100, "output": 20}


def test_approximate_costs_and_unread_requests_are_downloaded_as_csv(client: TestClient) -> None:
    post(
        client,
        a_call(id="c-1", approximated={"tier": 120}, region="eu"),
        a_call(id="c-2", operation="unread", tokens={}, cost={}, route="POST /v1/things/{id}"),
    )
    response = client.get("/api/v1/calls", params={"format": "csv"})
    unread, approximated = csv.DictReader(io.StringIO(response.text))
    assert (approximated["approximated"], approximated["region"], approximated["route"]) == (
        '{"tier": 120}',
        "eu",
        "",
    )
    assert (unread["operation"], unread["approximated"], unread["route"]) == (
        "unread",
        "{}",
        "POST /v1/things/{id}",
    )


def test_approximated_tokens_are_reported(client: TestClient) -> None:
    post(
        client,
        a_call(labels={"agent": "coder"}, approximated={"tier": 120, "region": 120}),
        a_call(labels={"agent": "planner"}, approximated={"modality": 20, "lifetime": 10}),
        a_call(labels={"agent": "planner"}),
    )
    cost = client.get("/api/v1/cost", params={"window": "1h"}).json()
    assert cost["approximated_tokens"] == 150
    assert {row["agent"]: row["approximated_tokens"] for row in cost["by_agent"]} == {
        "coder": 120,
        "planner": 30,
    }
    (period,) = client.get("/api/v1/usage", params={"period": "month"}).json()["periods"]
    assert period["approximated_tokens"] == 150
    listed = client.get("/api/v1/calls").json()["calls"]
    assert [call["approximated_tokens"] for call in listed] == [0, 30, 120]


def test_calls_of_older_and_newer_releases_are_accepted(client: TestClient) -> None:
    """An older release does not send some fields, and a newer one sends fields that are unknown here."""
    older = {
        "id": "c-1",
        "provider": "openai",
        "model": "gpt-4o",
        "operation": "chat",
        "tokens": {"input": 9},
    }
    newer = {**msgspec.to_builtins(a_call(id="c-2")), "color": "blue"}
    response = client.post("/api/v1/calls", json=[older, newer])
    assert response.json() == {"accepted": 2, "duplicates": 0}
    listed = {call["id"]: call for call in client.get("/api/v1/calls").json()["calls"]}
    assert (listed["c-1"]["approximated"], listed["c-1"]["region"], listed["c-1"]["route"]) == ({}, "", "")
    assert "color" not in listed["c-2"]


def test_usage_is_reported_by_period_with_start_and_end(client: TestClient) -> None:
    post(
        client,
        a_call(started=at("2026-01-31T23:59:59"), labels={"agent": "coder"}),
        a_call(started=at("2026-02-01T00:00:00"), labels={"agent": "coder"}, model="gpt-5-mini"),
        a_call(started=at("2026-02-01T00:00:00"), labels={"agent": "planner"}),
    )
    params = {"scope": "agent", "id": "coder", "period": "month", "since": "2026-01-01"}
    assert client.get("/api/v1/usage", params=params).json() == {
        "scope": "agent",
        "id": "coder",
        "period": "month",
        "periods": [
            {
                "start": "2026-01-01T00:00:00.000Z",
                "end": "2026-02-01T00:00:00.000Z",
                **totals(1),
                "by_model": [{"model": "gpt-5", **totals(1)}],
            },
            {
                "start": "2026-02-01T00:00:00.000Z",
                "end": "2026-03-01T00:00:00.000Z",
                **totals(1),
                "by_model": [{"model": "gpt-5-mini", **totals(1)}],
            },
        ],
    }
    days = client.get("/api/v1/usage", params={"period": "day", "since": "2026-01-01"}).json()["periods"]
    assert [(day["start"][:10], day["end"][:10], day["calls"]) for day in days] == [
        ("2026-01-31", "2026-02-01", 1),
        ("2026-02-01", "2026-02-02", 2),
    ]
    hours = client.get("/api/v1/usage", params={"period": "hour", "since": "2026-01-01"}).json()["periods"]
    assert [hour["end"] for hour in hours] == ["2026-02-01T00:00:00.000Z", "2026-02-01T01:00:00.000Z"]


@pytest.mark.parametrize(
    ("period", "moments", "boundaries"),
    [
        (
            "month",
            ["2026-12-31T23:59:59.999", "2027-01-01T00:00:00"],
            [("2026-12-01T00", "2027-01-01T00"), ("2027-01-01T00", "2027-02-01T00")],
        ),
        (
            "month",
            ["2028-02-29T23:59:59", "2028-03-01T00:00:00", "2028-04-30T12:00:00"],
            [
                ("2028-02-01T00", "2028-03-01T00"),
                ("2028-03-01T00", "2028-04-01T00"),
                ("2028-04-01T00", "2028-05-01T00"),
            ],
        ),
        (
            "day",
            ["2028-02-28T23:59:59", "2028-02-29T00:00:00", "2028-03-01T00:00:00"],
            [
                ("2028-02-28T00", "2028-02-29T00"),
                ("2028-02-29T00", "2028-03-01T00"),
                ("2028-03-01T00", "2028-03-02T00"),
            ],
        ),
        ("hour", ["2026-12-31T23:30:00"], [("2026-12-31T23", "2027-01-01T00")]),
    ],
)
def test_periods_end_where_the_next_one_starts_in_utc(
    client: TestClient, period: str, moments: list[str], boundaries: list[tuple[str, str]]
) -> None:
    post(client, *(a_call(started=at(moment)) for moment in moments))
    periods = client.get("/api/v1/usage", params={"period": period, "since": "0"}).json()["periods"]
    assert [(one["start"], one["end"], one["calls"]) for one in periods] == [
        (f"{start}:00:00.000Z", f"{end}:00:00.000Z", 1) for start, end in boundaries
    ]


def test_usage_defaults_to_the_last_thirty_days_by_day(client: TestClient) -> None:
    now = time.time()
    post(client, a_call(started=now), a_call(started=now - 29 * 86400), a_call(started=now - 31 * 86400))
    usage = client.get("/api/v1/usage").json()
    assert (usage["scope"], usage["id"], usage["period"]) == (None, None, "day")
    assert [day["calls"] for day in usage["periods"]] == [1, 1]


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("cost?session=nobody", 404, "session 'nobody' has no calls"),
        (
            "cost?since=yesterday",
            400,
            "since must be a time such as 2026-01-31T12:00:00Z, or Unix seconds, not 'yesterday'",
        ),
        ("cost?until=-1", 400, "until must be between the years 1970 and 9999, not '-1'"),
        ("cost?since=nan", 400, "since must be between the years 1970 and 9999, not 'nan'"),
        (
            "cost?window=soon",
            400,
            "window: 'soon' is not a duration: write 20s, 2m, 1h30m, 30d, or 45 for seconds",
        ),
        ("cost?window=1h&since=0", 400, "window and since are mutually exclusive"),
        ("cost?label=gold", 400, "label must be name:value, not 'gold'"),
        ("calls?limit=0", 400, "limit must be an integer from 1 to 10000, not '0'"),
        ("calls?limit=1e3", 400, "limit must be an integer from 1 to 10000, not '1e3'"),
        ("calls?limit=10001", 400, "limit must be an integer from 1 to 10000, not '10001'"),
        ("calls?limit=-1", 400, "limit must be an integer from 1 to 10000, not '-1'"),
        ("calls?limit=%D9%A3", 400, "limit must be an integer from 1 to 10000, not '\u0663'"),
        ("calls?before=x", 400, f"before must be an integer from 1 to {2**62}, not 'x'"),
        (f"calls?before={2**62 + 1}", 400, f"before must be an integer from 1 to {2**62}, not '{2**62 + 1}'"),
        ("cost?until=inf", 400, "until must be between the years 1970 and 9999, not 'inf'"),
        (
            "cost?agents=coder",
            400,
            "unknown parameter 'agents': use since, until, window, session, provider, model,"
            " operation, agent, phase, project, label, by",
        ),
        ("calls?failed=yes", 400, "failed must be one of true, false, not 'yes'"),
        ("calls?search=" + "a" * 257, 400, "search must have at most 256 characters, not 257"),
        ("report?top=1001", 400, "top must be an integer from 1 to 1000, not '1001'"),
        ("report?period=minute", 400, "period=minute needs since or window, and at most a day until `until`"),
        (
            "report?period=minute&window=25h",
            400,
            "period=minute needs since or window, and at most a day until `until`",
        ),
        ("calls?format=xml", 400, "format must be one of json, csv, not 'xml'"),
        ("usage?period=week", 400, "period must be one of hour, day, month, not 'week'"),
        ("usage?scope=agent", 400, "scope and id must be given together, for example scope=agent&id=planner"),
        (
            "usage?scope=user&id=u",
            400,
            "scope must be one of project, agent, session, model, phase, not 'user'",
        ),
        ("usage?limit=1", 400, "unknown parameter 'limit': use scope, id, period, since, until"),
        ("nothing", 404, "Not Found"),
    ],
)
def test_an_invalid_parameter_is_explained(client: TestClient, path: str, status: int, detail: str) -> None:
    response = client.get(f"/api/v1/{path}")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {"status": status, "detail": detail}


CALL = {"provider": "p", "model": "m", "operation": "chat"}


@pytest.mark.parametrize(
    ("body", "encoding", "status", "detail"),
    [
        (b"", "", 400, "invalid calls: Input data was truncated"),
        (b"[{}]", "", 400, "invalid calls: Object missing required field `provider` - at `$[0]`"),
        (
            b'[{"provider": 1}]',
            "",
            400,
            "invalid calls: Expected `str`, got `int` - at `$[0].provider`",
        ),
        (b"[" * 10**6, "", 400, "invalid calls: "),
        (
            json.dumps([{**CALL, "tokens": {"input": -1}}]).encode(),
            "",
            400,
            "call 0: tokens.input must be between 0 and 10^12, not -1",
        ),
        (
            json.dumps([CALL, {**CALL, "cost": {"input": 1e300}}]).encode(),
            "",
            400,
            "call 1: cost.input must be between 0 and 10^12, not 1e+300",
        ),
        (
            json.dumps([{**CALL, "tokens": {"gold": 1}}]).encode(),
            "",
            400,
            "invalid calls: Invalid enum value",
        ),
        (json.dumps([{**CALL, "id": ""}]).encode(), "", 400, "call 0: id must have 1 to 256 bytes"),
        (
            json.dumps([{**CALL, "cost": {"input": -0.01}}]).encode(),
            "",
            400,
            "call 0: cost.input must be between 0 and 10^12, not -0.01",
        ),
        (
            json.dumps([{**CALL, "cost": {"input": math.nan}}]).encode(),
            "",
            400,
            "invalid calls: JSON is m",
        ),
        (
            json.dumps([{**CALL, "cost": {"input": math.inf}}]).encode(),
            "",
            400,
            "invalid calls: JSON is m",
        ),
        (
            json.dumps([{**CALL, "tokens": {"input": 1.5}}]).encode(),
            "",
            400,
            "invalid calls: Expected `int`",
        ),
        (
            json.dumps([{**CALL, "tokens": {"input": 2**53}}]).encode(),
            "",
            400,
            f"call 0: tokens.input must be between 0 and 10^12, not {2**53}",
        ),
        (
            json.dumps([{**CALL, "duration": -1}]).encode(),
            "",
            400,
            "call 0: duration must be between 0 and 10^12, not -1.0",
        ),
        (
            json.dumps([{**CALL, "started": -1}]).encode(),
            "",
            400,
            "call 0: started must be between the years 1970 and 9998, not -1.0",
        ),
        (
            json.dumps([{**CALL, "started": 253370764800}]).encode(),
            "",
            400,
            "call 0: started must be between the years 1970 and 9998, not 253370764800.0",
        ),
        (
            json.dumps([CALL, {**CALL, "approximated": {"tier": -1}}]).encode(),
            "",
            400,
            "call 1: approximated.tier must be between 0 and 10^14, not -1",
        ),
        (
            json.dumps([{**CALL, "approximated": {"fee": 2**53}}]).encode(),
            "",
            400,
            f"call 0: approximated.fee must be between 0 and 10^14, not {2**53}",
        ),
        (
            json.dumps([{**CALL, "approximated": {"weather": 1}}]).encode(),
            "",
            400,
            "invalid calls: Invalid enum value 'weather' - at `key` in `$[0].approximated`",
        ),
        (
            json.dumps([{**CALL, "approximated": ["tier"]}]).encode(),
            "",
            400,
            "invalid calls: Expected `object`, got `array` - at `$[0].approximated`",
        ),
        (
            json.dumps([{**CALL, "route": None}]).encode(),
            "",
            400,
            "invalid calls: Expected `str`, got `null` - at `$[0].route`",
        ),
        (
            json.dumps([{**CALL, "reported_costs": {"tools": -0.5}}]).encode(),
            "",
            400,
            "call 0: reported_costs.tools must be between 0 and 10^12, not -0.5",
        ),
        (b'[{"provider":"p","model":"m","operation":"o","duration":1e999}]', "", 400, "invalid calls:"),
        (
            json.dumps([{**CALL, "units": {"images": -1}}]).encode(),
            "",
            400,
            "call 0: units.images must be between 0 and 10^12, not -1.0",
        ),
        (
            json.dumps([{**CALL, "labels": {"agent": 7}}]).encode(),
            "",
            400,
            "invalid calls: Expected `str`",
        ),
        (b'{"call": []}', "", 400, "invalid calls: Object missing required field `calls`"),
        (b"\xff\xfe[]", "", 400, "invalid calls: "),
        (b"[]", "gzip", 400, "invalid gzip: "),
        (gzip.compress(b"[]", mtime=0)[:-1], "gzip", 400, "invalid gzip: the body is truncated"),
        (gzip.compress(b" " * (MAX_BODY + 1), mtime=0), "gzip", 413, f"the body exceeds {MAX_BODY} bytes"),
        (b" " * (MAX_BODY + 1), "", 413, f"the body exceeds {MAX_BODY} bytes"),
        (b"[]", "br", 415, "unsupported Content-Encoding 'br': use gzip"),
    ],
)
def test_a_batch_with_an_invalid_call_is_rejected(
    client: TestClient, body: bytes, encoding: str, status: int, detail: str
) -> None:
    headers = {"content-encoding": encoding} if encoding else {}
    response = client.post("/api/v1/calls", content=body, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status
    assert response.json()["detail"].startswith(detail)
    assert client.get("/api/v1/calls").json()["calls"] == []


def test_the_latest_possible_call_has_a_period(client: TestClient) -> None:
    post(client, a_call(started=at("9998-12-31T23:59:59")))
    (month,) = client.get("/api/v1/usage", params={"period": "month", "since": "0"}).json()["periods"]
    assert month["end"] == "9999-01-01T00:00:00.000Z"


def test_health_and_readiness(
    client: TestClient, ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_exporter.service.readiness._FRESH_SECONDS", 0.0)
    assert client.get("/-/healthy").text == "healthy\n"
    assert client.get("/-/ready").text == "ready\n"
    ledger.close()
    response = client.get("/-/ready")
    assert response.status_code == 503
    assert response.json()["detail"].startswith("the ledger is unavailable: ")
    assert client.get("/-/healthy").status_code == 200


def test_metrics_are_served_in_both_formats(client: TestClient) -> None:
    post(client, a_call())
    assert 'llm_calls_total{agent="planner",' in client.get("/metrics").text
    response = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")


ALERT = {
    "status": "firing",
    "labels": {"alertname": "LLMCostHigh", "severity": "critical"},
    "annotations": {"summary": "planner spends too much"},
    "fingerprint": "f",
}


def test_alertmanager_webhooks_are_accepted(client: TestClient) -> None:
    assert client.post("/api/v1/alerts", json={"version": "4", "alerts": [ALERT]}).status_code == 204


@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ({"alerts": [{"status": "on"}]}, "Invalid enum value 'on'"),
        ({"alerts": [{"status": "firing"}]}, "Object missing required field `labels`"),
        ({"alerts": [{**ALERT, "labels": {"severity": 1}}]}, "Expected `str`, got `int`"),
        ({"alerts": ALERT}, "Expected `array`, got `object`"),
        ({}, "Object missing required field `alerts`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_an_invalid_webhook_is_rejected(client: TestClient, body: Any, mistake: str) -> None:
    response = client.post("/api/v1/alerts", json=body)
    assert (response.status_code, response.headers["content-type"]) == (400, "application/problem+json")
    assert response.json()["detail"].startswith(f"invalid Alertmanager webhook: {mistake}")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/calls", {"GET", "HEAD", "POST"}),
        ("POST", "/api/v1/cost", {"GET", "HEAD"}),
        ("POST", "/metrics", {"GET", "HEAD"}),
        ("GET", "/api/v1/alerts", {"POST"}),
        ("GET", "/api/v1/sessions/s-1/reset", {"POST"}),
    ],
)
def test_an_unsupported_method_is_rejected(
    client: TestClient, method: str, path: str, allowed: set[str]
) -> None:
    response = client.request(method, path)
    assert (response.status_code, set(response.headers["allow"].split(", "))) == (405, allowed)
    assert response.json() == {"status": 405, "detail": "Method Not Allowed"}


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
        ("/vendor/uPlot.iife.min.js", "text/javascript"),
    ],
)
def test_the_page_may_not_load_from_other_hosts(client: TestClient, path: str, kind: str) -> None:
    response = client.get(path)
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["content-security-policy"].startswith("default-src 'self'; img-src data:;")


def test_every_file_of_the_page_is_served(client: TestClient) -> None:
    page = Path(reports.__file__).with_name("page")
    files = {str(file.relative_to(page)) for file in page.rglob("*.*s")}
    assert files == set(PAGE_FILES)
    for name in PAGE_FILES:
        assert client.get(f"/{name}").text == (page / name).read_text()


def test_the_vendored_files_are_those_that_the_readme_names() -> None:
    vendor = Path(reports.__file__).parent / "page/vendor"
    named = dict(re.findall(r"^    ([0-9a-f]{64})  (\S+)$", (vendor / "README.md").read_text(), re.MULTILINE))
    files = {file.name: file.read_bytes() for file in vendor.iterdir() if file.name != "README.md"}
    assert {hashlib.sha256(content).hexdigest(): name for name, content in files.items()} == named


def test_the_description_has_exactly_the_routes(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json").json()
    paths = {(path, method.upper()) for path, methods in described["paths"].items() for method in methods}
    routes = {
        (route.path.replace(":path", ""), method)
        for route in client.app.routes  # type: ignore[attr-defined]
        for method in route.methods or ()
        if route.path not in ("/", *(f"/{name}" for name in PAGE_FILES)) and method != "HEAD"
    }
    assert paths == routes
    schemas = described["components"]["schemas"]
    assert set(schemas["CostReport"]["required"]) == set(examples.COST)
    assert set(schemas["Call"]["required"]) == {"provider", "model", "operation"}
    assert described["openapi"] == "3.1.0"


def test_the_examples_are_real_responses(client: TestClient) -> None:
    assert client.post("/api/v1/calls", json=[examples.CALL]).json() == {"accepted": 1, "duplicates": 0}
    assert client.get("/api/v1/cost").json() == examples.COST
    usage = {"scope": "agent", "id": "coder", "period": "month", "since": "0"}
    assert client.get("/api/v1/usage", params=usage).json() == examples.USAGE
    by_day = {"by": "model", "period": "day"}
    assert client.get("/api/v1/report", params=by_day).json() == examples.REPORT
    page = client.get("/api/v1/calls").json()
    (call,) = page["calls"]
    example = examples.CALL_ROW
    assert {name: call[name] for name in example} == example
    assert page["next"] is examples.CALLS["next"]
    missing = client.get("/api/v1/cost", params={"session": "s-18"}).json()
    assert missing == {**examples.PROBLEM, "detail": "session 's-18' has no calls"}
    assert client.post("/api/v1/alerts", json=examples.ALERTS).status_code == 204


BIG = "1" + "0" * 30
NO_INTEGERS = ("0", "-1", "1.5", BIG, "9" * 5000, "1e3", "0x10", "nan", "inf", "", " 1", "\uff11", "\u0661")
NO_TIMES = ("-1", BIG, "9" * 5000, "1e400", "nan", "inf", "-inf", "", "0x10", "0001-01-01", "9999-99-99")
NO_DURATIONS = ("0", "-1", BIG, "9" * 5000, "1e400", "nan", "inf", "9999999w", " ", "5x")


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        *(("calls", name, value) for name in ("limit", "before") for value in NO_INTEGERS),
        *(
            (path, name, value)
            for path in ("calls", "cost", "report", "usage")
            for name in ("since", "until")
            for value in NO_TIMES
        ),
        *((path, "window", value) for path in ("calls", "cost", "report") for value in NO_DURATIONS),
    ],
)
def test_a_number_outside_of_its_bounds_is_named(
    client: TestClient, path: str, name: str, value: str
) -> None:
    response = client.get(f"/api/v1/{path}", params={name: value})
    assert response.status_code == 400
    assert response.json()["detail"].startswith(name)


@pytest.mark.parametrize("text", [BIG, "-1", "NaN", "Infinity", "1e400", "253402300800", "true"])
def test_the_start_of_a_leased_period_has_bounds(client: TestClient, text: str) -> None:
    account = b'{"rule": "r", "values": [], "used": 1, "start": ' + text.encode() + b"}"
    response = client.post(
        "/api/v1/budgets/leases", content=b'{"process": "p", "accounts": [' + account + b"]}", headers=JSON
    )
    assert response.status_code == 400
    assert response.json()["detail"].startswith("invalid lease request: ")


@pytest.mark.parametrize("amount", [10**30, -(10**30)])
def test_the_amounts_of_a_lease_request_may_be_any_integers(client: TestClient, amount: int) -> None:
    account = {"rule": "r", "values": [], "used": amount, "keeps": amount, "wanted": amount}
    response = client.post("/api/v1/budgets/leases", json={"process": "p", "accounts": [account]})
    assert (response.status_code, response.json()["granted"]) == (200, [])
