"""A call that no sum can take is recognized, and its texts fit into labels."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest

from llm_exporter import Call
from llm_exporter.bounds import clean_call, clean_text, mistake
from support.calls import a_call

OUT_OF_BOUNDS = [
    ({"id": ""}, "id must have 1 to 256 bytes without control characters"),
    ({"id": "x" * 257}, "id must have 1 to 256 bytes without control characters"),
    ({"id": "a\nb"}, "id must have 1 to 256 bytes without control characters"),
    ({"tokens": {"input": -1}}, "tokens.input must be between 0 and 10^12, not -1"),
    ({"tokens": {"input": 10**12 + 1}}, "tokens.input must be between 0 and 10^12, not 1000000000001"),
    ({"tokens": {"input": 10**400}}, "tokens.input must be between 0 and 10^12, not an integer of 1329 bits"),
    (
        {"unpriced_tokens": 10**5000},
        "unpriced_tokens must be between 0 and 10^14, not an integer of 16610 bits",
    ),
    ({"units": {"images": -1.0}}, "units.images must be between 0 and 10^12, not -1.0"),
    ({"units": {"a\nb": math.inf}}, "units.a?b must be between 0 and 10^12, not inf"),
    ({"cost": {"input": math.nan}}, "cost.input must be between 0 and 10^12, not nan"),
    ({"cost": {f"type{n}": 1.0 for n in range(101)}}, "cost must have at most 100 entries, not 101"),
    ({"reported_cost": -0.01}, "reported_cost must be between 0 and 10^12, not -0.01"),
    ({"reported_costs": {"tools": 1e300}}, "reported_costs.tools must be between 0 and 10^12, not 1e+300"),
    (
        {"approximated": {"fee": 10**14 + 1}},
        "approximated.fee must be between 0 and 10^14, not 100000000000001",
    ),
    ({"unpriced_tokens": -1}, "unpriced_tokens must be between 0 and 10^14, not -1"),
    ({"duration": math.nan}, "duration must be between 0 and 10^12, not nan"),
    ({"time_to_first_token": -1.0}, "time_to_first_token must be between 0 and 10^12, not -1.0"),
    ({"started": -1.0}, "started must be between the years 1970 and 9998, not -1.0"),
    ({"started": 253370764800.0}, "started must be between the years 1970 and 9998, not 253370764800.0"),
    ({"started": math.nan}, "started must be between the years 1970 and 9998, not nan"),
]


@pytest.mark.parametrize(("fields", "reason"), OUT_OF_BOUNDS, ids=[reason for _, reason in OUT_OF_BOUNDS])
def test_a_mistake_names_the_field_and_its_bounds(fields: dict[str, Any], reason: str) -> None:
    assert mistake(a_call(**fields)) == reason


def test_the_largest_call_has_no_mistake() -> None:
    call = a_call(
        id="x" * 256,
        tokens={"input": 10**12, "output": 0},
        units={"images": 1e12},
        cost={f"type{n}": 1e12 for n in range(100)},
        reported_cost=1e12,
        reported_costs={"input": 1e12},
        approximated={"tier": 10**14},
        unpriced_tokens=10**14,
        duration=1e12,
        time_to_first_token=1e12,
        started=253370764799.0,
    )
    assert mistake(call) == ""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("gpt-4o", "gpt-4o"),
        ("", ""),
        ("Müller 東京 👩‍💻", "Müller 東京 👩‍💻"),
        ("a\nb\tc\x00d\x1be\x7ff\x85g\u2028h", "a?b?c?d?e?f?g?h"),
        ("file-\udcff", "file-?"),
        ("a" * 256, "a" * 256),
        ("a" * 10**7, "a" * 256),
        ("é" * 128, "é" * 128),
        ("x" + "é" * 128, "x" + "é" * 127),
        ("x" + "東" * 100, "x" + "東" * 85),
        ("\udcff" * 300, "?" * 256),
    ],
    ids=[
        "plain",
        "empty",
        "unicode",
        "control characters",
        "surrogate",
        "256 bytes",
        "10 MB",
        "256 bytes of é",
        "257 bytes",
        "cut between characters",
        "surrogates",
    ],
)
def test_a_text_is_cut_to_256_bytes_without_control_characters(text: str, clean: str) -> None:
    assert clean_text(text) == clean


def test_every_text_of_a_call_is_cleaned() -> None:
    dirty, clean = "a\n" * 200, "a?" * 128
    names = "provider model operation requested_model service_tier speed region host budget route"
    texts: dict[str, Any] = dict.fromkeys(names.split(), dirty)
    call = a_call(
        **texts,
        labels={dirty: dirty, "agent": "planner"},
        units={dirty: 1.0},
        cost={dirty: 0.25, dirty + "b": 0.5, "input": 1.0},
        reported_costs={dirty: 1.0},
    )
    clean_call(call)
    assert {getattr(call, name) for name in texts} == {clean}
    assert call.labels == {clean: clean, "agent": "planner"}
    assert call.units == {clean: 1.0}
    assert call.cost == {clean: 0.75, "input": 1.0}
    assert call.reported_costs == {clean: 1.0}


def test_no_text_of_a_call_is_forgotten() -> None:
    """A text that is added to `Call` must be cleaned, unless it has a fixed set of values."""
    any_text = {
        field.name
        for field in msgspec.structs.fields(Call)
        if field.type in (str, str | None, dict[str, str], dict[str, float])
    }
    dirty = "a\n"
    call = a_call(
        **{
            field.name: {dirty: 1.0 if field.type == dict[str, float] else dirty}
            if str(field.type).startswith("dict")
            else dirty
            for field in msgspec.structs.fields(Call)
            if field.name in any_text - {"id"}
        }
    )
    clean_call(call)
    assert "\\n" not in repr(call)


def test_a_call_that_is_clean_stays_as_it_is() -> None:
    call = a_call(labels={"agent": "é" * 300})
    clean_call(call)
    assert call.labels == {"agent": "é" * 128}
    same = a_call(service_tier=None)
    before = msgspec.json.encode(same)
    clean_call(same)
    assert msgspec.json.encode(same) == before
