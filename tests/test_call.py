"""What ledgers, spools and requests hold of a call."""

from __future__ import annotations

import msgspec

from llm_exporter import Call


def test_an_encoded_call_leaves_out_defaults() -> None:
    call = Call(
        id="c1",
        started=1_795_000_000.5,
        provider="openai",
        model="gpt-4o-2024-08-06",
        operation="chat",
        tokens={"input": 12},
        stream=True,
        usage_reported=True,
    )

    encoded = msgspec.json.encode(call)

    assert encoded == (
        b'{"provider":"openai","model":"gpt-4o-2024-08-06","operation":"chat","id":"c1","started":1795000000.5,'
        b'"tokens":{"input":12},"stream":true}'
    )
    assert msgspec.json.decode(encoded, type=Call) == call


def test_a_stored_call_keeps_its_meaning_because_defaults_do_not_change() -> None:
    stored = b'{"provider":"openai","model":"gpt-4o","operation":"chat","id":"c1","started":1795000000.5}'

    call = msgspec.json.decode(stored, type=Call)

    assert msgspec.structs.asdict(call) == {
        "provider": "openai",
        "model": "gpt-4o",
        "operation": "chat",
        "id": "c1",
        "started": 1_795_000_000.5,
        "requested_model": "",
        "labels": {},
        "tokens": {},
        "units": {},
        "cost": {},
        "cost_source": None,
        "reported_cost": None,
        "reported_costs": {},
        "unpriced_tokens": 0,
        "approximated": {},
        "usage_reported": True,
        "estimated": False,
        "stream": False,
        "service_tier": None,
        "speed": None,
        "region": "",
        "host": "",
        "batch": False,
        "duration": 0.0,
        "time_to_first_token": None,
        "error": None,
        "budget": "",
        "route": "",
        "trace_id": "",
        "retries": [],
    }
