"""Usage of Google's Interactions API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_exporter.wire.interactions import InteractionsReader

Json = dict[str, Any]


def read_body(usage: Json, request: Json | None = None, **fields: Any) -> InteractionsReader:
    reader = InteractionsReader()
    reader.read_request(request or {})
    body = {"id": "v1_t", "status": "completed", "model": "gemini-3-t", "usage": usage, **fields}
    reader.read_body(json.dumps(body).encode())
    return reader


def modality(kind: str, number: int) -> Json:
    return {"modality": kind, "tokens": number}


def test_tokens_are_disjoint_by_modality() -> None:
    """The input includes cached tokens, but not what tools returned."""
    usage = {
        "total_input_tokens": 1000,
        "input_tokens_by_modality": [modality("text", 400), modality("audio", 600)],
        "total_cached_tokens": 500,
        "cached_tokens_by_modality": [modality("text", 100), modality("audio", 400)],
        "total_tool_use_tokens": 70,
        "tool_use_tokens_by_modality": [modality("text", 20), modality("image", 50)],
        "total_output_tokens": 90,
        "output_tokens_by_modality": [modality("text", 10), modality("image", 80)],
        "total_thought_tokens": 7,
    }

    assert read_body(usage).reading.tokens == {
        "input": 320,
        "input_audio": 200,
        "input_image": 50,
        "cache_read": 100,
        "cache_read_audio": 400,
        "output": 10,
        "output_image": 80,
        "reasoning": 7,
    }


def call(kind: str, *queries: str, **fields: str) -> Json:
    return {"type": f"google_{kind}_call", "id": "c1", "arguments": {"queries": queries}, **fields}


@pytest.mark.parametrize(
    ("steps", "tools", "units"),
    [
        pytest.param([call("search", "a", "b", "a")], {}, {"web_searches": 2}, id="queries"),
        pytest.param([call("maps", "a", "b")], {}, {"maps_searches": 2}, id="queries to Google Maps"),
        pytest.param(
            [call("search", "a", search_type="enterprise_web_search")],
            {"google_search": 1},
            {"enterprise_web_searches": 1},
            id="enterprise",
        ),
        pytest.param(
            [call("search", "a")],
            {"google_search": 1, "google_maps": 3, "retrieval": 1},
            {"web_searches": 1, "maps_searches": 3, "retrievals": 1},
            id="counts where no step names the queries",
        ),
    ],
)
def test_each_grounding_tool_has_a_unit(steps: list[Json], tools: dict[str, int], units: Json) -> None:
    counts = [{"type": kind, "count": number} for kind, number in tools.items()]
    usage = {"total_input_tokens": 9, "grounding_tool_count": counts}

    assert read_body(usage, steps=steps).reading.units == units


def test_requested_tier_counts_if_the_response_names_none() -> None:
    usage = {"total_input_tokens": 9}
    request = {"service_tier": "flex"}

    assert read_body(usage, request).reading.service_tier == "flex"
    assert read_body(usage, request, service_tier="standard").reading.service_tier == "standard"
