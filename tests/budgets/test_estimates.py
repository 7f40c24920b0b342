"""Estimates of calls. A million tokens of gpt-4o cost $2.50 (input) and $10 (output)."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import llm_exporter
from llm_exporter.budgets.asked import asked_by, max_output_tokens
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.budgets.estimates import Estimates
from llm_exporter.call import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, PriceOverride, Prices
from llm_exporter.pricing.prices import PriceList
from support.budgets import Clock, Scenario, budget

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("request_", "tokens"),
    [
        ({}, 0),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 100, "n": 3}, 300),
        ({"max_output_tokens": 7}, 7),
        ({"generationConfig": {"maxOutputTokens": 9}}, 9),
        ({"max_tokens": "many", "n": -1, "generationConfig": []}, 0),
        (b"bytes", 0),
    ],
)
def test_the_maximum_output_is_read_from_the_request(request_: object, tokens: int) -> None:
    assert max_output_tokens(request_) == tokens


def test_the_first_call_of_a_model_is_estimated_by_its_maximum() -> None:
    prompt = "four" * 500
    for asked, tokens in [({}, 500 + 1024), ({"max_tokens": 64_000}, 500 + 4096), ({"max_tokens": 9}, 509)]:
        scenario = Scenario(budget(None, tokens=100_000))
        scenario.budgets.hold(scenario.call(), {"messages": [{"content": prompt}], **asked})
        assert scenario.status() == {("all",): (0.0, tokens)}


def test_later_calls_are_estimated_by_the_most_expensive_recent_response() -> None:
    scenario = Scenario(budget("100"), budget(None, name="tokens", tokens=1_000_000))
    scenario.spend(0.4, tokens=10_000)
    scenario.spend(0.1, tokens=1_000)  # the estimate decays by 5%, to $0.38 and 9,500 tokens
    scenario.hold(64_000)
    assert scenario.status() == {("all",): (0.5, 0.38), ("tokens",): (11_000, 9_500)}
    scenario.hold(950)  # a tenth of it
    assert scenario.status() == {("all",): (0.5, 0.418), ("tokens",): (11_000, 10_450)}


def test_an_unknown_model_is_estimated_at_the_fallback_price() -> None:
    prices = PriceList(Prices(fallback={"input": Decimal(10), "output": Decimal(30)}))
    budgets = Budgets([budget("0.03")], prices, lambda event: None, Clock())
    call = Call(provider="x", model="unknown", requested_model="unknown", operation="chat")
    with pytest.raises(BudgetExceeded) as raised:
        budgets.hold(call, {"max_tokens": 2000})
    assert raised.value.estimate == 0.06


def test_estimate_cost_uses_the_same_prices_as_calls(pipeline: Pipeline) -> None:
    assert llm_exporter.estimate_cost("gpt-4o", 1000, 500) == 0.0075
    assert llm_exporter.estimate_cost("gpt-4o", 1000, provider="openai") == 0.0025
    # Above 200,000 tokens of prompt gemini-2.5-pro costs $2.50 in and $15 out.
    assert llm_exporter.estimate_cost("gemini-2.5-pro", 300_000, 1000) == 0.765
    assert llm_exporter.estimate_cost("unknown", 1000, 500) is None
    pipeline.configure(Config(prices=Prices(fallback={"input": Decimal(10), "output": Decimal(30)})))
    assert llm_exporter.estimate_cost("unknown", 1000, 500) == 0.025
    assert llm_exporter.estimate_cost("gpt-4o", 1000.0, 5e2) == 0.0075
    with pytest.raises(ValueError, match="the number of tokens is negative: -1"):
        llm_exporter.estimate_cost("gpt-4o", -1)
    for number in (0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"the number of tokens is not whole: {number}"):
            llm_exporter.estimate_cost("gpt-4o", 1, number)


def test_estimate_cost_finds_overrides_and_discounts_without_a_provider(pipeline: Pipeline) -> None:
    override = PriceOverride(
        provider="house", model="house-model", usd_per_million_tokens={"input": Decimal(2)}
    )
    prices = Prices(overrides=[override], discounts={"openai": Decimal("0.5")})
    pipeline.configure(Config(prices=prices))
    assert llm_exporter.estimate_cost("house-model", 1_000_000) == 2
    assert llm_exporter.estimate_cost("HOUSE-MODEL", 1_000_000) == 2
    assert llm_exporter.estimate_cost("gpt-4o", 1_000_000) == 1.25
    other = override.model_copy(update={"provider": "other"})
    pipeline.configure(Config(prices=Prices(overrides=[override, other])))
    assert llm_exporter.estimate_cost("house-model", 1_000_000) is None  # it could be either
    assert llm_exporter.estimate_cost("house-model", 1_000_000, provider="other") == 2


PROMPT = "four" * 1_000
"""A thousand tokens."""


def may_cost(name: str, request: dict[str, Any], **call: Any) -> float:
    """Return the estimated USD of a call with a prompt of a thousand tokens and a thousand output tokens."""
    provider, _, model = name.partition(" ")
    estimates = Estimates(PriceList())
    made = Call(provider=provider, model=model, requested_model=model, operation="chat", started=WHEN, **call)
    body = {"input": PROMPT, "max_tokens": 1_000, "model": model, **request}
    return estimates.estimate(made, asked_by(body))[0]


@pytest.mark.parametrize(
    ("name", "request_", "call", "usd"),
    [
        # Claude Opus 5: $5 and $25; written to the cache $6.25, or $10 for an hour
        pytest.param("anthropic claude-opus-5", {}, {}, 0.03, id="no cache"),
        pytest.param(
            "anthropic claude-opus-5",
            {"system": [{"cache_control": {"type": "ephemeral"}}]},
            {},
            0.03125,
            id="cache write",
        ),
        pytest.param(
            "anthropic claude-opus-5",
            {"system": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
            {},
            0.035,
            id="one-hour cache write",
        ),
        pytest.param("anthropic claude-opus-5", {"speed": "fast"}, {}, 0.06, id="fast"),
        pytest.param("anthropic claude-opus-5", {"inference_geo": "us"}, {}, 0.033, id="in the US"),
        pytest.param(
            "anthropic claude-opus-5",
            {"tools": [{"type": "web_search_20250305", "max_uses": 5}]},
            {},
            0.08,
            id="five web searches",
        ),
        # gpt-6.1-terra: $1 and $5, cache writes $1.25, 12-hour cache writes $2.50; priority twice, flex half
        pytest.param("openai gpt-6.1-terra", {}, {}, 0.00625, id="OpenAI writes to the cache unasked"),
        pytest.param(
            "openai gpt-6.1-terra", {"prompt_cache_options": {"ttl": "12h"}}, {}, 0.0075, id="12 hours"
        ),
        pytest.param("openai gpt-6.1-terra", {"service_tier": "priority"}, {}, 0.0125, id="priority"),
        pytest.param("openai gpt-6.1-terra", {"service_tier": "flex"}, {}, 0.00625, id="flex may be refused"),
        pytest.param("openai gpt-6.1-terra", {}, {"region": "eu"}, 0.006875, id="regional host"),
        pytest.param(
            "openai gpt-6.1-terra", {"tools": [{"type": "web_search"}]}, {}, 0.01625, id="web search"
        ),
        pytest.param("perplexity sonar", {}, {}, 0.014, id="fee for the request"),
        pytest.param(
            "google gemini-2.5-flash", {"tools": [{"googleSearch": {}}]}, {}, 0.0378, id="grounding"
        ),
        pytest.param("openai llama3", {}, {"cost_source": "local"}, 0.0, id="local"),
    ],
)
def test_an_estimate_is_an_upper_bound(
    name: str, request_: dict[str, Any], call: dict[str, Any], usd: float
) -> None:
    # Strings such as a tier count as a token of the prompt, too.
    assert may_cost(name, request_, **call) == pytest.approx(usd, rel=2e-3)


def test_text_and_caches_are_found_at_any_depth_and_inline_files_are_no_text() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "A" * 9_000}}
    hour, usual = (
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"cache_control": {"type": "ephemeral"}},
    )
    text: Any = {"type": "text", "text": "four"}
    for _ in range(5_000):
        text = {"type": "tool_result", "content": [text]}
    body = {
        "model": "m",
        "system": [{"text": "12345678", **hour}],
        "messages": [{"role": "user", "content": [text, image, "data:image/png;base64,AAAA"], **usual}],
        "temperature": None,
    }
    asked = asked_by(body)
    assert asked.characters == 12
    assert sorted(asked.terms.cache_writes) == ["cache_write", "cache_write_1h"]
    assert asked_by({"messages": [{"content": "four"}]}).terms.cache_writes == ()


def test_an_estimate_follows_the_configured_prices() -> None:
    call = Call(provider="x", model="m", requested_model="m", operation="chat", started=WHEN)
    asked = asked_by({"input": PROMPT})
    usd = []
    for price in (1, 3):
        prices = PriceList(Prices(fallback={"input": Decimal(price), "output": Decimal(0)}))
        estimates = Estimates(prices)
        estimates.observe(msgspec.structs.replace(call, tokens={"output": 10}))
        usd += [estimates.estimate(call, asked)[0] for _ in range(2)]
    assert usd == [0.001, 0.001, 0.003, 0.003]
