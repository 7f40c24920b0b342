"""Damaged requests to the service: it refuses or counts them, never fails, and counts all others."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import msgspec

from faults.agents import kept
from faults.conftest import Record
from faults.damage import damaged
from support.calls import a_call
from support.samples import SAMPLES
from support.served import Served

DAMAGED = 10_000
EVERY = 20
"""After how many damaged requests a valid one follows."""
ENCODINGS = ("", "gzip", "identity", "br", "gzip, gzip", "\x7f")


def post(connection: HTTPConnection, body: bytes, encoding: str = "") -> int:
    """Post calls, and return the status."""
    headers = {"content-type": "application/json", "content-encoding": encoding}
    connection.request("POST", "/api/v1/calls", body, headers)
    response = connection.getresponse()
    response.read()
    return response.status


def test_damaged_calls(tmp_path: Path, record: Record) -> None:
    chance = random.Random("calls")  # noqa: S311
    fuzz = {"agent": "fuzz", "session": "fuzz"}
    valid = [
        msgspec.json.encode([a_call(id="a", labels=fuzz, stream=True, time_to_first_token=0.5)]),
        msgspec.json.encode(
            [a_call(id="b", labels=fuzz, retries=["timeout"]), a_call(id="c", error="timeout")]
        ),
        json.dumps({"calls": [msgspec.to_builtins(a_call(id="d", units={"web_search": 2}))]}).encode(),
    ]
    others = [sample.data for sample in SAMPLES]
    made = []
    statuses: Counter[int] = Counter()
    service = Served(tmp_path)
    with service, closing(HTTPConnection("127.0.0.1", service.port)) as connection:
        for number in range(DAMAGED):
            encoding = chance.choice(ENCODINGS) if chance.random() < 0.1 else chance.choice(("", "gzip"))
            body = damaged(chance, chance.choice(valid), others)
            if encoding == "gzip":
                body = gzip.compress(body, 1, mtime=0)
                body = body if chance.random() < 0.8 else damaged(chance, body, others)
            statuses[post(connection, body, encoding)] += 1
            if number % EVERY == 0:
                made.append(f"valid-{number}")
                assert post(connection, msgspec.json.encode([a_call(labels={"session": made[-1]})])) == 200
        assert set(statuses) <= {200, 400, 413, 415}
        assert min(statuses[200], statuses[400], statuses[415]) > 100
    with service:  # the ledger can be read again, and every number in it be counted
        metrics = service.get_text("/metrics")
        assert "llm_exporter_errors_total{" not in metrics
        assert record(
            "requests to the service are damaged",
            f"{DAMAGED:,} bodies, in JSON or gzip, with a valid one after each {EVERY}; then a restart",
            made,
            [session for session in kept(service) if session.startswith("valid-")],
            seen="they get 400, 413 or 415, or are calls by chance",
        ) == (0, 0)
