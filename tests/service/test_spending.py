"""What was spent: the cost, the report, and the usage by period."""

from __future__ import annotations

import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from support.api import at, post
from support.calls import a_call

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


def test_the_latest_possible_call_has_a_period(client: TestClient) -> None:
    post(client, a_call(started=at("9998-12-31T23:59:59")))
    (month,) = client.get("/api/v1/usage", params={"period": "month", "since": "0"}).json()["periods"]
    assert month["end"] == "9999-01-01T00:00:00.000Z"
