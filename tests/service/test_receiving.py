"""Which calls the service accepts, and what it says of the others."""

from __future__ import annotations

import gzip
import json
import math

import msgspec
import pytest
from starlette.testclient import TestClient

from llm_exporter.service.bodies import MAX_BODY
from support.api import post
from support.calls import a_call


def test_calls_are_accepted_plain_gzipped_or_in_an_object(client: TestClient) -> None:
    plain, gzipped, wrapped = a_call(), a_call(), a_call()
    assert post(client, plain, plain) == {"accepted": 1, "duplicates": 1}
    body = gzip.compress(msgspec.json.encode([gzipped]))
    response = client.post("/api/v1/calls", content=body, headers={"content-encoding": "gzip"})
    assert response.json() == {"accepted": 1, "duplicates": 0}
    response = client.post("/api/v1/calls", content=msgspec.json.encode({"calls": [wrapped, plain]}))
    assert response.json() == {"accepted": 1, "duplicates": 1}


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
