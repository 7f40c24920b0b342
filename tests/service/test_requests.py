"""The parameters of requests have bounds, and an invalid one is explained."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from support.api import JSON


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
