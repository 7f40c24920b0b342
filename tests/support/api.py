"""Requests to the service's API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.testclient import TestClient

from llm_exporter import Call

JSON = {"content-type": "application/json"}


def at(text: str) -> float:
    """Return the Unix time of a moment in UTC, written as in ISO 8601."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def post(client: TestClient, *calls: Call) -> Any:
    """Send calls, and return the response, which must be a success."""
    response = client.post("/api/v1/calls", content=msgspec.json.encode(calls))
    assert response.status_code == 200
    return response.json()
