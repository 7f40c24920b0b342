"""Calls are listed, searched and downloaded."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from llm_exporter.service import reports
from support.api import at, post
from support.calls import a_call


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
