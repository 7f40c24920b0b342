"""Estimates of calls. A million tokens of gpt-4o cost $2.50 (input) and $10 (output)."""

from __future__ import annotations

from decimal import Decimal

import pytest

import llm_exporter
from llm_exporter.budgets.enforcement import Budgets
from llm_exporter.budgets.errors import BudgetExceeded
from llm_exporter.budgets.estimates import max_output_tokens
from llm_exporter.call import Call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, Prices
from llm_exporter.pricing.prices import PriceList
from support.budgets import Clock, Scenario, budget


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
    with pytest.raises(ValueError, match="the number of tokens is negative: -1"):
        llm_exporter.estimate_cost("gpt-4o", -1)
