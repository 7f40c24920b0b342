"""Factors: published ones have a source, configured ones win over them, and what has no price is counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest

from llm_exporter.call import ApproximationReason, Call, TokenType
from llm_exporter.config.loading import load
from llm_exporter.config.model import PriceFactor, PriceOverride, Prices
from llm_exporter.errors import ConfigError
from llm_exporter.pricing.factors import FACTORS, SAME_AS_TEXT, is_standard, normalized
from llm_exporter.pricing.prices import PriceList
from llm_exporter.pricing.rates import UNITS

WHEN = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
M = 1_000_000


def priced(config: Prices | None = None, name: str = "openai gpt-5", **call: Any) -> Call:
    """Price a call of a million input and output tokens: gpt-5 costs $1.25 and $10."""
    provider, _, model = name.partition(" ")
    tokens: dict[TokenType, int] = {"input": M, "output": M}
    made = Call(
        provider=provider, model=model, operation="chat", **{"tokens": tokens, "started": WHEN, **call}
    )
    PriceList(config).price(made)
    return made


def factors(*each: dict[str, Any]) -> Prices:
    return Prices(factors=[PriceFactor(**one) for one in each])


@pytest.mark.parametrize("factor", FACTORS, ids=lambda each: f"{each.provider} {each.modifier} {each.value}")
def test_a_published_factor_is_positive_and_has_a_page_and_a_date(factor: Any) -> None:
    assert 0 < factor.number < 20
    assert factor.source.startswith("https://")
    assert date(2025, 1, 1) < date.fromisoformat(factor.as_of)
    for pattern in (factor.value, factor.model, factor.units):
        re.compile(pattern)
    if factor.units:
        assert any(re.fullmatch(factor.units, unit) for unit in UNITS.values())


def test_modalities_with_the_price_of_text_name_a_page_and_known_units() -> None:
    for same in SAME_AS_TEXT:
        assert same.source.startswith("https://")
        assert any(re.fullmatch(same.unit, unit) for unit in UNITS.values())


@pytest.mark.parametrize("tier", ["auto", "default", "STANDARD", "ON_DEMAND", "TRAFFIC_TYPE_UNSPECIFIED"])
def test_a_standard_tier_costs_the_standard_price(tier: str) -> None:
    assert is_standard("tier", normalized(tier))
    call = priced(service_tier=tier)
    assert (call.cost, call.approximated) == ({"input": 1.25, "output": 10.0}, {})


def test_a_value_without_a_price_is_counted_and_logged_once(
    caplog: pytest.LogCaptureFixture, said: Callable[[], list[logging.LogRecord]]
) -> None:
    prices = PriceList()
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for _ in range(3):
            call = Call(
                provider="openai",
                model="gpt-5",
                operation="chat",
                tokens={"input": 5, "output": 7},
                service_tier="warp",
                started=WHEN,
            )
            prices.price(call)
    assert call.approximated == {"tier": 12}
    (record,) = said()
    message = record.getMessage()
    assert "no price for tier 'warp' of model 'gpt-5' of provider 'openai'" in message
    assert "llm_price_approximated_tokens_total" in message
    assert "prices.factors" in message


def test_warnings_are_bounded_by_model_reason_and_value(
    caplog: pytest.LogCaptureFixture, said: Callable[[], list[logging.LogRecord]]
) -> None:
    prices = PriceList()
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for tier in ("warp", "slow", "warp"):
            for region in ("moon", "mars"):
                call = Call(
                    provider="x-ai",
                    model="grok-4.6",
                    operation="chat",
                    tokens={"input": 5},
                    service_tier=tier,
                    region=region,
                    started=WHEN,
                )
                prices.price(call)
    assert len(said()) == 4
    assert call.approximated == {"tier": 5, "region": 5}


def test_a_call_without_tokens_counts_as_one_approximate_token() -> None:
    call = priced(tokens={}, units={"web_searches": 1}, service_tier="warp")
    assert call.approximated == {"tier": 1}


def test_each_reason_has_a_known_name() -> None:
    call = priced(service_tier="warp", region="moon", batch=True, speed="slow", name="perplexity sonar")
    assert set(call.approximated) == {"tier", "region", "batch", "speed"} < set(get_args(ApproximationReason))


def test_an_unknown_model_is_unpriced_rather_than_approximate() -> None:
    call = priced(name="openai zebra-9", service_tier="flex", batch=True)
    assert (call.cost, call.approximated, call.unpriced_tokens) == ({}, {}, 2 * M)


# Configured factors


@pytest.mark.parametrize(
    ("configured", "call", "cost"),
    [
        pytest.param({"tier": "scale", "factor": "0.8"}, {"service_tier": "scale"}, (1.0, 8.0), id="tier"),
        pytest.param(
            {"tier": "priority", "factor": "1.6"},
            {"service_tier": "priority"},
            (2.0, 16.0),
            id="tier of the price table",
        ),
        pytest.param(
            {"tier": "ON_DEMAND_FLEX", "factor": "0.4"},
            {"service_tier": "flex"},
            (0.5, 4.0),
            id="tier by another name",
        ),
        pytest.param(
            {"tier": "default", "factor": "2"}, {"service_tier": "default"}, (2.5, 20.0), id="standard tier"
        ),
        pytest.param({"region": "moon", "factor": "4"}, {"region": "moon"}, (5.0, 40.0), id="region"),
        pytest.param({"batch": True, "factor": "0.4"}, {"batch": True}, (0.5, 4.0), id="batch"),
        pytest.param({"provider": "OpenAI", "factor": "0.4"}, {}, (0.5, 4.0), id="provider"),
        pytest.param({"model": "GPT-5(-mini)?", "factor": "0.4"}, {}, (0.5, 4.0), id="model"),
        pytest.param({"host": "gw.example", "factor": "1.2"}, {"host": "gw.example"}, (1.5, 12.0), id="host"),
        pytest.param(
            {"tier": "flex", "batch": True, "factor": "0.4"},
            {"service_tier": "flex", "batch": True},
            (0.5, 4.0),
            id="tier and batch",
        ),
    ],
)
def test_a_configured_factor_multiplies_the_standard_price(
    configured: dict[str, Any], call: dict[str, Any], cost: tuple[float, float]
) -> None:
    """It also takes precedence over the price table."""
    made = priced(factors(configured), **call)
    assert made.cost == {"input": cost[0], "output": cost[1]}
    assert made.approximated == {}


@pytest.mark.parametrize(
    "configured",
    [
        {"provider": "azure"},
        {"model": "gpt-5-mini"},
        {"model": "gpt"},
        {"tier": "flex"},
        {"region": "eu"},
        {"batch": True},
        {"host": "gw.example"},
        {"host": "gw.example", "provider": "openai"},
    ],
    ids=str,
)
def test_a_factor_for_other_calls_does_not_apply(configured: dict[str, Any]) -> None:
    assert priced(factors({"factor": 3, **configured})).cost == {"input": 1.25, "output": 10.0}


def test_factors_of_several_kinds_multiply_and_the_first_of_a_kind_applies() -> None:
    config = factors(
        {"host": "gw.example", "factor": "1.2"},
        {"tier": "flex", "factor": "0.4"},
        {"tier": "flex", "factor": "100"},
        {"provider": "openai", "factor": "100"},
    )
    call = priced(config, service_tier="flex", host="gw.example", region="")
    assert call.cost == {"input": 0.6, "output": 4.8}


def test_a_factor_changes_no_fee() -> None:
    call = priced(factors({"provider": "openai", "factor": 2}), units={"web_searches": 1})
    assert call.cost == {"input": 2.5, "output": 20.0, "tools": 0.01}


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("{factor: 2}", "set at least one of provider, host, model, tier, region and batch"),
        ("{provider: openai}", "factors.0.factor: required key is missing"),
        ("{provider: openai, factor: 0}", "factors.0.factor: must be greater than 0"),
        ("{provider: openai, factor: .inf}", "factors.0.factor: must be a finite number"),
        ("{model: 'gpt-(', factor: 2}", "factors.0.model: 'gpt-(' is not a regular expression"),
        ("{host: 'https://gw.example', factor: 2}", "factors.0.host: "),
        ("{batch: false, factor: 2}", "factors.0.batch: "),
        ("{tiers: flex, factor: 2}", "factors.0.tiers: "),
    ],
)
def test_a_mistake_in_a_factor_is_reported(yaml: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "llm-exporter.yml"
    file.write_text(f"prices:\n  factors:\n    - {yaml}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(file)


# Overrides


def override(name: str, **usd: Decimal | int | str) -> Prices:
    provider, _, model = name.partition(" ")
    return Prices(
        overrides=[PriceOverride(provider=provider, model=model, usd_per_million_tokens=usd)]  # type: ignore[arg-type]
    )


def test_an_override_changes_only_the_types_that_it_names() -> None:
    """gpt-5: $1.25 input, $0.125 cached, $10 output; reasoning has the price of output."""
    tokens: dict[TokenType, int] = {"input": M, "cache_read": M, "output": M, "reasoning": M}
    assert priced(override("openai gpt-5", input=1), tokens=tokens).cost == {
        "input": 1.0,
        "cache_read": 0.125,
        "output": 10.0,
        "reasoning": 10.0,
    }
    assert priced(override("openai gpt-5", output=8), tokens=tokens).cost == {
        "input": 1.25,
        "cache_read": 0.125,
        "output": 8.0,
        "reasoning": 8.0,
    }
    assert priced(override("openai gpt-5", cache_read="0.1", reasoning=9), tokens=tokens).cost == {
        "input": 1.25,
        "cache_read": 0.1,
        "output": 10.0,
        "reasoning": 9.0,
    }


def test_an_override_keeps_tiers_batches_regions_and_fees() -> None:
    """In flex mode and batches, gpt-5 costs half; web searches cost $10 a thousand."""
    config = override("openai gpt-5", input=2)
    assert priced(config, service_tier="flex").cost == {"input": 1.0, "output": 5.0}
    assert priced(config, batch=True).cost == {"input": 1.0, "output": 5.0}
    assert priced(config, units={"web_searches": 2}).cost == {"input": 2.0, "output": 10.0, "tools": 0.02}
    config = override("anthropic claude-opus-5", input=4)
    assert priced(config, "anthropic claude-opus-5", region="us").cost == {"input": 4.4, "output": 27.5}


def test_an_override_keeps_the_context_steps_of_other_types() -> None:
    """Above 200,000 input tokens, gemini-2.5-pro costs $2.50 and $15 instead of $1.25 and $10."""
    config = override("google gemini-2.5-pro", input=1)
    assert priced(config, "google gemini-2.5-pro").cost == {"input": 1.0, "output": 15.0}


@pytest.mark.parametrize("spelling", ["GPT-5", "models/gpt-5", "openai/gpt-5"])
def test_an_override_compares_names_as_providers_do(spelling: str) -> None:
    assert priced(override("openai gpt-5", input=1), f"openai {spelling}").cost["input"] == 1.0
    assert priced(override(f"OpenAI {spelling}", input=1)).cost["input"] == 1.0


def test_an_override_for_a_model_without_a_price_extends_to_similar_types() -> None:
    tokens: dict[TokenType, int] = {"input": M, "cache_read": M, "cache_write_1h": M, "reasoning": M}
    call = priced(override("openai zebra", input=2, cache_write=3, output=4), "openai zebra", tokens=tokens)
    assert call.cost == {"input": 2.0, "cache_read": 2.0, "cache_write_1h": 3.0, "reasoning": 4.0}
    assert (call.cost_source, call.unpriced_tokens, call.approximated) == ("override", 0, {})


def test_a_discount_applies_to_what_is_not_overridden() -> None:
    config = Prices(
        overrides=override("openai gpt-5", input=1).overrides, discounts={"openai": Decimal("0.1")}
    )
    assert priced(config).cost == {"input": 1.0, "output": 9.0}
    assert priced(config, batch=True).cost == {"input": 0.5, "output": 4.5}
