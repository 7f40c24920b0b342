"""The cost of a call, compared with the prices that the providers publish."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st

from llm_exporter.call import Call, TokenType
from llm_exporter.config.model import PriceOverride, Prices
from llm_exporter.pricing.prices import PriceList
from llm_exporter.pricing.rates import Rate, TokenPrices, highest
from llm_exporter.pricing.tariffs import Terms

NOVEMBER = datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp()


def priced(
    provider: str,
    model: str,
    tokens: dict[TokenType, int],
    *,
    requested_model: str = "",
    service_tier: str | None = None,
    started: float = NOVEMBER,
    units: dict[str, float] | None = None,
) -> Call:
    call = Call(
        provider=provider,
        model=model,
        requested_model=requested_model,
        operation="chat",
        started=started,
        tokens=tokens,
        service_tier=service_tier,
        units=units or {},
    )
    PriceList().price(call)
    return call


# USD per million tokens from the pricing pages, calculated by hand:
# https://platform.openai.com/docs/pricing, https://claude.com/pricing#api, https://ai.google.dev/pricing
@pytest.mark.parametrize(
    ("provider", "model", "tokens", "cost"),
    [
        pytest.param(
            # input 2.50, cached input 1.25, output 10
            "openai",
            "gpt-4o-2024-08-06",
            {"input": 176, "cache_read": 1024, "output": 300},
            {"input": 0.00044, "cache_read": 0.00128, "output": 0.003},
            id="gpt-4o with cached input",
        ),
        pytest.param(
            # input 1.10, output and reasoning 4.40
            "openai",
            "o4-mini-2025-04-16",
            {"input": 500, "output": 260, "reasoning": 640},
            {"input": 0.00055, "output": 0.001144, "reasoning": 0.002816},
            id="o4-mini with reasoning",
        ),
        pytest.param(
            # input 3, read 0.30, 5-minute write 3.75, 1-hour write 6, output 15
            "anthropic",
            "claude-sonnet-4-6",
            {"input": 50, "cache_read": 10_000, "cache_write": 2_000, "cache_write_1h": 1_000, "output": 400},
            {
                "input": 0.00015,
                "cache_read": 0.003,
                "cache_write": 0.0075,
                "cache_write_1h": 0.006,
                "output": 0.006,
            },
            id="Claude Sonnet 4.6 with cache reads, 5-minute and 1-hour writes",
        ),
        pytest.param(
            # prompts over 200,000 tokens: input 6, read 0.60, write 7.50, output 22.50
            "anthropic",
            "claude-sonnet-4-5-20250929",
            {"input": 100_000, "cache_read": 90_000, "cache_write": 20_000, "output": 1_000},
            {"input": 0.6, "cache_read": 0.054, "cache_write": 0.15, "output": 0.0225},
            id="Claude Sonnet 4.5 with a long context, cached tokens included",
        ),
        pytest.param(
            # input 1.25, output 10 including thoughts
            "google",
            "gemini-2.5-pro",
            {"input": 1_000, "output": 200, "reasoning": 1_300},
            {"input": 0.00125, "output": 0.002, "reasoning": 0.013},
            id="Gemini 2.5 Pro with thoughts",
        ),
        pytest.param(
            # text 0.30, audio 1.00, cached text 0.03, cached audio 0.10, output 2.50
            "google",
            "gemini-2.5-flash",
            {"input": 1_000, "input_audio": 2_000, "cache_read": 500, "cache_read_audio": 300, "output": 100},
            {
                "input": 0.0003,
                "input_audio": 0.002,
                "cache_read": 0.000015,
                "cache_read_audio": 0.00003,
                "output": 0.00025,
            },
            id="Gemini 2.5 Flash with audio",
        ),
    ],
)
def test_the_cost_by_type_follows_the_published_prices(
    provider: str, model: str, tokens: dict[TokenType, int], cost: dict[str, float]
) -> None:
    call = priced(provider, model, tokens)
    assert call.cost == cost
    assert call.unpriced_tokens == 0


def test_an_unknown_model_costs_nothing_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
    said: Callable[[], list[logging.LogRecord]],
) -> None:
    prices = PriceList()
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for _ in range(3):
            call = Call(
                provider="openai", model="zebra-9", operation="chat", tokens={"input": 5, "output": 7}
            )
            prices.price(call)
    assert (call.cost, call.unpriced_tokens) == ({}, 12)
    (record,) = said()
    assert "'zebra-9' of provider 'openai'" in record.getMessage()


def test_an_unknown_provider_has_no_prices_even_for_a_known_model() -> None:
    assert priced("my-own-gpus", "gpt-4o", {"input": 5}).unpriced_tokens == 5


def test_an_unknown_model_in_the_response_has_the_price_of_the_requested_one() -> None:
    call = priced("openai", "prod-deployment-7", {"input": 1_000_000}, requested_model="gpt-4o")
    assert call.cost == {"input": 2.5}


def test_a_call_is_priced_at_the_time_it_was_made() -> None:
    """OpenAI cut o3 from $10 to $2 a million input tokens on 2025-06-10."""
    before = datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC).timestamp()
    after = datetime(2025, 6, 10, tzinfo=UTC).timestamp()
    assert priced("openai", "o3", {"input": 1_000_000}, started=before).cost == {"input": 10.0}
    assert priced("openai", "o3", {"input": 1_000_000}, started=after).cost == {"input": 2.0}


def test_the_service_tier_in_the_response_sets_the_price() -> None:
    """gpt-5: $1.25 a million input tokens, flex half of that, priority twice."""
    tokens: dict[TokenType, int] = {"input": 1_000_000}
    assert priced("openai", "gpt-5", tokens, service_tier="default").cost == {"input": 1.25}
    assert priced("openai", "gpt-5", tokens, service_tier="flex").cost == {"input": 0.625}
    assert priced("openai", "gpt-5", tokens, service_tier="priority").cost == {"input": 2.5}


def test_provider_side_tools_cost_their_fee() -> None:
    """Anthropic: $10 for a thousand web searches."""
    call = priced("anthropic", "claude-sonnet-4-5", {"input": 100_000}, units={"web_searches": 3})
    assert call.cost == {"input": 0.3, "tools": 0.03}


def test_a_call_without_tokens_costs_nothing_and_is_not_unpriced() -> None:
    call = priced("openai", "zebra-9", {})
    assert (call.cost, call.unpriced_tokens) == ({}, 0)


MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5"),
    ("openai", "gpt-4o-audio-preview"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-pro"),
    ("google", "gemini-2.5-flash"),
    ("azure", "gpt-4o"),
    ("groq", "llama-3.3-70b-versatile"),
]


@given(
    which=st.sampled_from(MODELS),
    counts=st.dictionaries(
        st.sampled_from(["input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning"]),
        st.integers(1, 400_000),
    ),
)
def test_the_types_add_up_to_the_total_of_genai_prices(
    which: tuple[str, str], counts: dict[TokenType, int]
) -> None:
    provider, model = which
    call = priced(provider, model, dict(counts))
    written = counts.get("cache_write", 0) + counts.get("cache_write_1h", 0)
    usage = Usage(
        input_tokens=counts.get("input", 0) + counts.get("cache_read", 0) + written,
        cache_read_tokens=counts.get("cache_read", 0),
        cache_write_tokens=written,
        cache_write_5m_tokens=counts.get("cache_write", 0),
        cache_write_1h_tokens=counts.get("cache_write_1h", 0),
        output_tokens=counts.get("output", 0) + counts.get("reasoning", 0),
        output_reasoning_tokens=counts.get("reasoning", 0),
    )
    when = datetime.fromtimestamp(NOVEMBER, UTC)
    whole = calc_price(usage, model, provider_id=provider, genai_request_timestamp=when).total_price
    assert call.total_cost == pytest.approx(float(whole), rel=1e-12)


def test_cached_prices_equal_the_first_ones() -> None:
    prices = PriceList()
    costs = []
    for _, tier in product(range(2), ("default", "flex")):
        call = Call(
            provider="openai",
            model="gpt-5",
            operation="chat",
            started=NOVEMBER,
            tokens={"input": 1_000_000},
            service_tier=tier,
        )
        prices.price(call)
        costs.append(call.cost["input"])
    assert costs == [1.25, 0.625, 1.25, 0.625]


def reported(model: str, tokens: dict[TokenType, int], usd: float) -> Call:
    call = Call(provider="openrouter", model=model, operation="chat", tokens=tokens, reported_cost=usd)
    PriceList().price(call)
    return call


def test_a_reported_cost_takes_precedence_and_is_divided_by_list_prices() -> None:
    """At list prices, input costs $0.0025 and output $0.0015: five and three eighths of the total."""
    call = reported("openai/gpt-4o", {"input": 1_000, "output": 150}, 0.008)
    assert call.cost == {"input": pytest.approx(0.005), "output": pytest.approx(0.003)}
    assert (call.cost_source, call.unpriced_tokens) == ("provider", 0)


def test_a_reported_cost_of_an_unknown_model_is_divided_by_tokens() -> None:
    call = reported("no/one-knows", {"input": 300, "output": 100}, 0.004)
    assert call.cost == {"input": pytest.approx(0.003), "output": pytest.approx(0.001)}
    assert call.unpriced_tokens == 0


def test_a_reported_cost_of_zero_for_tokens_is_no_report() -> None:
    """The list price of 300 tokens is $0.00075."""
    call = reported("openai/gpt-4o", {"input": 300}, 0.0)
    assert (call.cost, call.cost_source) == ({"input": 0.00075}, "list")


def test_a_reported_cost_of_zero_for_a_free_model_costs_nothing() -> None:
    call = reported("deepseek/deepseek-r1:free", {"input": 300, "output": 5}, 0.0)
    assert (call.cost, call.unpriced_tokens) == ({"input": 0.0, "output": 0.0}, 0)


@pytest.mark.parametrize(("cost", "approximated"), [(None, {"fee": 300}), (0.02, {})])
def test_searches_of_an_online_model_are_approximate_unless_their_cost_is_reported(
    cost: float | None, approximated: dict[str, int]
) -> None:
    """300 tokens are listed at $0.003 with `gpt-4-turbo`; the fee of the search is not."""
    call = Call(
        provider="openrouter",
        model="openai/gpt-4-turbo:online",
        operation="chat",
        tokens={"input": 300},
        started=NOVEMBER,
        reported_cost=cost,
    )
    PriceList().price(call)
    assert call.total_cost == (cost or 0.003)
    assert call.approximated == approximated


def test_a_reported_cost_is_divided_as_the_response_splits_it() -> None:
    """The prompt and the response each at list prices: $2.50, cached $1.25, output and reasoning $10."""
    call = Call(
        provider="openrouter",
        model="openai/gpt-4o",
        operation="chat",
        tokens={"input": 500, "cache_read": 1_000, "output": 100, "reasoning": 300},
        started=NOVEMBER,
        reported_cost=0.0168,
        reported_costs={"input": 0.0048, "output": 0.008, "tools": 0.004},
    )
    PriceList().price(call)
    assert call.cost == pytest.approx(
        {"input": 0.0024, "cache_read": 0.0024, "output": 0.002, "reasoning": 0.006, "tools": 0.004}
    )
    assert (call.cost_source, call.approximated) == ("provider", {})


def test_what_the_split_of_a_reported_cost_leaves_over_is_a_fee() -> None:
    call = Call(
        provider="perplexity",
        model="sonar",
        operation="chat",
        tokens={"input": 1_000, "output": 1_000},
        reported_cost=0.01,
        reported_costs={"input": 0.001, "output": 0.002},
    )
    PriceList().price(call)
    assert call.cost == pytest.approx({"input": 0.001, "output": 0.002, "tools": 0.007})


def test_a_split_of_more_than_the_reported_cost_is_scaled_down() -> None:
    call = Call(
        provider="perplexity",
        model="sonar",
        operation="chat",
        tokens={"input": 1_000, "output": 1_000},
        reported_cost=0.003,
        reported_costs={"input": 0.002, "output": 0.004},
    )
    PriceList().price(call)
    assert call.cost == pytest.approx({"input": 0.001, "output": 0.002})


@pytest.mark.parametrize(("usd", "is_suspicious"), [(3.9, False), (4.1, True), (0.041, False), (0.039, True)])
def test_a_report_ten_times_off_the_list_price_is_kept_and_counted(
    usd: float, is_suspicious: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The list price is $0.40."""
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        call = reported("openai/gpt-4o", {"input": 120_000, "output": 10_000}, usd)
    assert call.total_cost == pytest.approx(usd)
    assert call.cost_source == "provider"
    assert call.approximated == ({"reported_cost": 130_000} if is_suspicious else {})
    assert ("prices.overrides" in caplog.text) == is_suspicious


def test_an_override_takes_precedence_over_a_reported_cost() -> None:
    call = Call(
        provider="openrouter",
        model="openai/gpt-4o",
        operation="chat",
        tokens={"input": 1_000_000},
        reported_cost=7.0,
    )
    override = PriceOverride(
        provider="openrouter", model="openai/gpt-4o", usd_per_million_tokens={"input": Decimal(1)}
    )
    PriceList(Prices(overrides=[override])).price(call)
    assert (call.cost, call.cost_source) == ({"input": 1.0}, "override")


def test_a_reported_cost_leaves_nothing_approximate() -> None:
    call = Call(
        provider="openrouter",
        model="openai/gpt-4o",
        operation="chat",
        tokens={"input": 1_000},
        service_tier="warp",
        reported_cost=0.0025,
    )
    PriceList().price(call)
    assert (call.cost, call.approximated) == ({"input": 0.0025}, {})


@pytest.mark.parametrize(
    ("fields", "remedy"),
    [
        ({"service_tier": "express"}, "; set the price under prices.factors"),
        ({"speed": "warp"}, ""),  # no setting has the price of a speed
        ({"units": {"house_visits": 1.0}}, ""),
    ],
    ids=["tier", "speed", "fee"],
)
def test_the_warning_of_an_approximate_cost_names_the_setting_if_there_is_one(
    fields: dict[str, Any], remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    prices = PriceList()
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        for _ in range(2):
            prices.price(
                Call(provider="openai", model="gpt-5", operation="chat", tokens={"input": 9}, **fields)
            )
    (record,) = caplog.records
    assert record.message.endswith(f"count in llm_price_approximated_tokens_total{remedy}")


def test_a_call_to_a_local_server_costs_nothing_even_with_a_fallback() -> None:
    call = Call(
        provider="openai",
        model="llama-3",
        operation="chat",
        tokens={"input": 5, "output": 7},
        cost_source="local",
    )
    for _ in range(2):  # the service prices calls without a cost again
        PriceList(Prices(fallback={"input": Decimal(10)})).price(call)
        assert (call.cost, call.cost_source) == ({"input": 0.0, "output": 0.0}, "local")
        assert (call.unpriced_tokens, call.approximated) == (0, {})


def test_a_call_to_a_local_server_has_the_configured_price() -> None:
    call = Call(
        provider="vllm",
        model="llama-3",
        operation="chat",
        tokens={"input": 1_000_000},
        cost_source="local",
    )
    override = PriceOverride(
        provider="vllm", model="Llama-3", usd_per_million_tokens={"input": Decimal("0.1")}
    )
    PriceList(Prices(overrides=[override])).price(call)
    assert (call.cost, call.cost_source) == ({"input": 0.1}, "override")


def test_a_fallback_keeps_the_fees_of_an_unknown_model() -> None:
    call = Call(
        provider="openai",
        model="zebra-9",
        operation="chat",
        tokens={"input": 1_000_000},
        units={"web_searches": 1},
    )
    PriceList(Prices(fallback={"input": Decimal(10)})).price(call)
    assert call.cost == {"input": 10.0, "tools": 0.01}
    assert (call.cost_source, call.unpriced_tokens) == ("fallback", 1_000_000)


def test_audio_seconds_beside_tokens_are_not_a_missing_fee() -> None:
    call = priced("openai", "gpt-4o-transcribe", {"input_audio": 100}, units={"input_audio_seconds": 10})
    assert call.approximated == {}
    call = priced("openai", "zebra-9", {}, units={"input_audio_seconds": 10})
    assert call.approximated == {"fee": 1}


def test_a_reported_cost_without_tokens_is_a_fee() -> None:
    assert reported("an/image-model", {}, 0.04).cost == {"tools": 0.04}


def test_batches_have_batch_prices() -> None:
    """Batches cost half of $2.50 and of $10."""
    call = Call(
        provider="openai",
        model="gpt-4o",
        operation="chat",
        started=NOVEMBER,
        tokens={"input": 1_000_000, "output": 1_000_000},
        batch=True,
    )
    PriceList().price(call)
    assert call.cost == {"input": 1.25, "output": 5.0}


def test_fast_mode_has_its_own_price() -> None:
    """Claude Opus 4.8 costs $5 and $25 a million tokens, and twice that in fast mode."""
    call = Call(
        provider="anthropic",
        model="claude-opus-4-8",
        operation="chat",
        started=NOVEMBER,
        tokens={"input": 1_000, "output": 1_000},
        speed="fast",
    )
    PriceList().price(call)
    assert call.cost == {"input": 0.01, "output": 0.05}


@given(
    rates=st.lists(st.decimals("1e-15", "1e3", allow_nan=False), min_size=1, max_size=4),
    starts=st.sets(st.integers(0, 20), max_size=3),
    prompt=st.integers(0, 20),
    output=st.integers(1, 10**12),
)
def test_a_cost_is_the_exact_decimal_product_rounded_once(
    rates: list[Decimal], starts: set[int], prompt: int, output: int
) -> None:
    base, *above = rates
    rate = Rate(base, tuple(zip(sorted(starts), above, strict=False)))
    call = Call(provider="p", model="m", operation="chat", tokens={"input": prompt, "output": output})
    numerator, denominator = TokenPrices({"output_text_tokens": rate}).of(call)["output"]
    with localcontext(prec=100):
        assert numerator * output / denominator == float(rate.at(prompt) * output)


def test_upper_bounds_hold_for_a_minute() -> None:
    """Prices change on whole minutes only."""
    prices, terms = PriceList(), Terms("openai", "gpt-4o")
    bounds = [prices.upper_bounds(terms, when) for when in (NOVEMBER, NOVEMBER + 59, NOVEMBER + 60)]
    assert bounds[0] is bounds[1]
    assert bounds[0] is not bounds[2]


def test_the_highest_of_some_rates_is_so_for_each_length_of_the_prompt() -> None:
    low, high = (
        Rate(Decimal(1), ((100, Decimal(5)),)),
        Rate(Decimal(2), ((200, Decimal(4)), (300, Decimal(6)))),
    )
    both = highest([low, high])
    assert both is not None
    assert [both.at(tokens) for tokens in (1, 100, 101, 200, 201, 300, 301)] == [2, 2, 5, 5, 5, 5, 6]
    assert highest([]) is None
