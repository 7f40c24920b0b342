"""The rate limits in response headers become gauges."""

from __future__ import annotations

import httpx2
import pytest

import llm_exporter
from llm_exporter.metrics.rate_limits import rate_limits
from support.metered import Metered
from support.operations import CHAT, MESSAGES, Format, Operation
from support.scripted import Server

OPENAI = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1998800",
    "x-ratelimit-reset-tokens": "36ms",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "39000",
    "anthropic-ratelimit-requests-reset": "2026-11-02T12:00:00Z",
}


@pytest.mark.parametrize(
    ("wire", "headers", "limits", "remaining"),
    [
        pytest.param(
            CHAT,
            OPENAI,
            {("requests",): 10_000, ("tokens",): 2_000_000},
            {("requests",): 9_999, ("tokens",): 1_998_800},
            id="OpenAI",
        ),
        pytest.param(
            MESSAGES,
            ANTHROPIC,
            {("requests",): 50, ("input_tokens",): 40_000},
            {("requests",): 49, ("input_tokens",): 39_000},
            id="Anthropic",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_the_rate_limits_of_the_last_response_are_shown_by_provider_and_model(
    wire: Format,
    headers: dict[str, str],
    limits: dict[tuple[str], float],
    remaining: dict[tuple[str], float],
    stream: bool,
    server: Server,
    metered: Metered,
) -> None:
    operation = Operation(wire, "sync", stream=stream)
    response = operation.response()
    response.headers = headers
    server.respond_with(operation.path, response)
    operation.run(llm_exporter.instrument(operation.client(server.url)))
    labels = {"provider": wire.provider, "model": wire.model}
    assert metered.samples("llm_rate_limit_limit", **labels) == limits
    assert metered.samples("llm_rate_limit_remaining", **labels) == remaining


@pytest.mark.parametrize(
    "value",
    ["-1", "+1", "1.5", "NaN", "inf", "many", "", " ", "1_000", "0x1", "²", "9" * 16, "9" * 5_000, "1e9"],
)
def test_a_value_that_is_not_a_number_is_ignored(value: str) -> None:
    assert rate_limits({"X-RateLimit-Limit-Requests": value}) == []


def test_headers_of_httpx_are_read_without_decoding_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = httpx2.Headers({"X-RateLimit-Limit-Requests": "50", "server": "x"})
    monkeypatch.delattr(httpx2.Headers, "items")
    assert rate_limits(headers) == [("limit", "requests", 50.0)]
