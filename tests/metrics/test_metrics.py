"""Calls are counted under the documented names and labels."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import generate_latest

from llm_exporter import Call, __version__
from llm_exporter.config.model import Config
from llm_exporter.metrics.specs import DROPPED, METRICS
from support.metered import Metered

BASE = {"provider": "openai", "model": "gpt-4o", "agent": "planner", "phase": "plan"}


def a_call(**fields: Any) -> Call:
    """Return a call of the planner, without tokens."""
    defaults: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-4o",
        "operation": "chat",
        "labels": {"agent": "planner", "phase": "plan", "session": "s-1"},
    }
    return Call(**{**defaults, **fields})


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_names_follow_the_prometheus_conventions(spec: Any) -> None:
    """The conventions are at https://prometheus.io/docs/practices/naming/."""
    assert spec.name.startswith(("llm_", "llm_exporter_"))
    assert spec.name.endswith("_total") == (spec.type == "counter")
    assert spec.help.endswith(".")
    assert bool(spec.buckets) == (spec.type == "histogram")
    assert list(spec.buckets) == sorted(spec.buckets)


def test_tokens_and_cost_are_counted_by_type(metered: Metered) -> None:
    metered.pipeline.record(a_call(tokens={"input": 1000, "output": 200}))
    metered.pipeline.record(a_call(tokens={"input": 500}))
    assert metered.samples("llm_tokens_total", **BASE) == {("input",): 1500, ("output",): 200}
    assert metered.samples("llm_cost_usd_total", **BASE) == {("input",): 0.00375, ("output",): 0.002}


def test_a_failed_call_is_counted_as_a_call_and_as_an_error(metered: Metered) -> None:
    metered.pipeline.record(a_call(error="overloaded", usage_reported=False, retries=["timeout"]))
    assert metered.samples("llm_calls_total", **BASE) == {("chat",): 1}
    assert metered.samples("llm_call_errors_total", **BASE) == {("overloaded", "chat"): 1}
    assert metered.samples("llm_retries_total", **BASE) == {("timeout",): 1}
    assert metered.samples("llm_usage_missing_total") == {}


def test_a_successful_call_without_usage_is_counted_as_missing_usage(metered: Metered) -> None:
    metered.pipeline.record(a_call(usage_reported=False))
    assert metered.samples("llm_usage_missing_total", **BASE) == {("chat",): 1}
    assert metered.samples("llm_call_errors_total") == {}


def test_tokens_of_an_unknown_model_are_counted_as_unpriced(metered: Metered) -> None:
    metered.pipeline.record(a_call(model="zebra-9", tokens={"input": 5, "output": 7}))
    assert metered.total("llm_unpriced_tokens_total", model="zebra-9") == 12
    assert metered.samples("llm_cost_usd_total") == {}


def test_tokens_with_an_approximate_cost_are_counted_by_reason(metered: Metered) -> None:
    metered.pipeline.record(a_call(cost_source="list", approximated={"tier": 1200, "fee": 1}))
    metered.pipeline.record(a_call(cost_source="list", approximated={"tier": 300}))
    metered.pipeline.record(a_call())
    assert metered.samples("llm_price_approximated_tokens_total", **BASE) == {("tier",): 1500, ("fee",): 1}


def an_unread_request(route: str, provider: str = "openai", **fields: Any) -> Call:
    """Return a successful request that no reader takes."""
    return a_call(
        **{"provider": provider, "operation": "unread", "usage_reported": False, "route": route, **fields}
    )


def test_unread_requests_are_counted_by_provider_and_route(metered: Metered) -> None:
    for _ in range(3):
        metered.pipeline.record(an_unread_request("POST /v1/things"))
    metered.pipeline.record(an_unread_request("POST /v1/things/{id}/runs"))
    metered.pipeline.record(an_unread_request("POST /v1/things", "anthropic"))
    assert metered.samples("llm_exporter_unread_requests_total") == {
        ("openai", "POST /v1/things"): 3,
        ("openai", "POST /v1/things/{id}/runs"): 1,
        ("anthropic", "POST /v1/things"): 1,
    }
    assert metered.samples("llm_calls_total", **BASE) == {("unread",): 4}


def test_an_unread_request_that_failed_is_not_counted_as_unread(metered: Metered) -> None:
    """Providers do not bill it."""
    metered.pipeline.record(an_unread_request("POST /v1/things", error="not_found"))
    assert metered.samples("llm_exporter_unread_requests_total") == {}
    assert metered.samples("llm_call_errors_total", **BASE) == {("not_found", "unread"): 1}


def test_unread_requests_beyond_100_routes_are_counted_under_other(metered: Metered) -> None:
    for number in range(150):
        metered.pipeline.record(an_unread_request(f"POST /v1/things{number}"))
    metered.pipeline.record(an_unread_request("POST /v1/things7"))
    metered.pipeline.record(an_unread_request("POST /v1/things", "anthropic"))
    found = metered.samples("llm_exporter_unread_requests_total")
    assert len(found) == 102
    assert found["openai", "POST /v1/things7"] == 2
    assert found["openai", "other"] == 50
    assert found["anthropic", "other"] == 1


def test_latency_time_to_first_token_and_output_rate_are_observed(metered: Metered) -> None:
    """100 tokens follow the first one within two seconds: 50 per second."""
    metered.pipeline.record(
        a_call(duration=2.5, time_to_first_token=0.5, tokens={"input": 9, "output": 61, "reasoning": 40})
    )
    assert metered.samples("llm_latency_seconds_sum", **BASE) == {("chat",): 2.5}
    assert metered.samples("llm_time_to_first_token_seconds_sum", **BASE) == {("chat",): 0.5}
    assert metered.samples("llm_output_tokens_per_second_sum", **BASE) == {("chat",): 50.0}
    assert metered.samples("llm_latency_seconds_bucket", le="2.0", **BASE) == {("chat",): 0}
    assert metered.samples("llm_latency_seconds_bucket", le="4.0", **BASE) == {("chat",): 1}
    assert metered.samples("llm_latency_seconds_bucket", le="600.0", **BASE) == {("chat",): 1}


def test_a_call_without_streaming_has_no_output_rate(metered: Metered) -> None:
    metered.pipeline.record(a_call(duration=2.5, tokens={"output": 50}))
    assert metered.samples("llm_time_to_first_token_seconds_count") == {}
    assert metered.samples("llm_output_tokens_per_second_count") == {}


def test_a_stream_of_one_token_has_no_output_rate(metered: Metered) -> None:
    metered.pipeline.record(a_call(duration=2.5, time_to_first_token=2.5, tokens={"output": 1}))
    assert metered.samples("llm_output_tokens_per_second_count") == {}


def test_sessions_and_other_ids_never_become_labels(metered: Metered) -> None:
    metered.pipeline.record(a_call(labels={"session": "s-1", "user": "u-1", "thread": "t-1"}))
    text = generate_latest(metered.pipeline.registry).decode()
    assert not [word for word in ("s-1", "u-1", "t-1", "session=", "user=", "thread=") if word in text]


def test_there_are_no_created_series(metered: Metered) -> None:
    metered.pipeline.record(a_call())
    assert "_created" not in generate_latest(metered.pipeline.registry).decode()


def test_build_info_names_the_version(metered: Metered) -> None:
    ((labels, value),) = metered.samples("llm_exporter_build_info").items()
    assert __version__ in labels
    assert value == 1


def test_new_agents_are_counted_as_other_beyond_the_series_limit(
    metered: Metered, caplog: pytest.LogCaptureFixture
) -> None:
    metered.pipeline.configure(Config(max_series=60, labels=("team",)))
    for number in range(50):
        labels = {"agent": f"a-{number}", "phase": "plan", "team": "t"}
        metered.pipeline.record(a_call(labels=labels, tokens={"input": 1000}))
    assert len(metered.calls) == 50
    assert metered.total("llm_calls_total") == 50
    assert metered.total("llm_tokens_total") == 50_000
    assert metered.total("llm_cost_usd_total") == pytest.approx(0.125)
    others = metered.total("llm_calls_total", agent="other", phase="other", team="other", model="gpt-4o")
    assert 0 < others < 50
    assert metered.total("llm_exporter_series_over_limit_total") == others
    assert metered.total("llm_exporter_series_limit") == 60
    assert 60 <= metered.total("llm_exporter_series") < 66
    assert len([record for record in caplog.records if "60 series" in record.message]) == 1


def test_approximate_costs_beyond_the_series_limit_are_counted_under_other(metered: Metered) -> None:
    metered.pipeline.configure(Config(max_series=20))
    for number in range(30):
        labels = {"agent": f"a-{number}", "phase": "plan"}
        metered.pipeline.record(a_call(labels=labels, cost_source="list", approximated={"region": 10}))
    assert metered.total("llm_price_approximated_tokens_total", reason="region") == 300
    assert metered.total("llm_price_approximated_tokens_total", reason="region", agent="other") >= 200


def test_made_up_models_are_counted_as_other_far_beyond_the_series_limit(metered: Metered) -> None:
    metered.pipeline.configure(Config(max_series=60))
    for number in range(100):
        metered.pipeline.record(a_call(model=f"m-{number}"))
    assert len(metered.calls) == 100
    assert metered.total("llm_calls_total") == 100
    assert metered.total("llm_calls_total", model="other", agent="other") > 50
    assert metered.total("llm_exporter_series") < 80


def scraped(metered: Metered) -> tuple[str, int]:
    """Return the text of a scrape, and its number of series; a histogram counts as one."""
    text = b"".join(metered.pipeline.flushed().text(scrape=True, openmetrics=False)).decode()
    series = {
        re.sub(r'_(bucket|sum|count)(\{|$)|,?le="[^"]*"', r"\2", line.rpartition(" ")[0])
        for line in text.splitlines()
        if not line.startswith("#")
    }
    return text, len(series)


def test_made_up_providers_are_counted_as_other_far_beyond_the_series_limit(metered: Metered) -> None:
    """60,000 providers would make 300,000 series."""
    metered.pipeline.configure(Config(max_series=1000))
    for number in range(60_000):
        metered.pipeline.metrics.record(
            a_call(provider=f"p-{number}", model=f"m-{number}", operation=f"o-{number}", tokens={"input": 1})
        )
    assert metered.total("llm_calls_total") == 60_000
    assert metered.total("llm_tokens_total") == 60_000
    assert metered.total("llm_calls_total", provider="other", model="other", operation="other") > 59_000
    assert metered.total("llm_exporter_series") <= 1210
    assert metered.total("llm_exporter_series_over_limit_total") > 59_000
    text, series = scraped(metered)
    assert series <= 1210
    assert len(text) < 1_000_000


def test_further_labels_of_known_series_are_counted_as_other_at_the_hard_limit(metered: Metered) -> None:
    """Cost types and budgets, which a forged call may make up."""
    metered.pipeline.configure(Config(max_series=100))
    for number in range(300):
        metered.pipeline.metrics.record(
            a_call(cost={f"type-{number}": 1.0}, error="budget", budget=f"b-{number}")
        )
    assert metered.total("llm_calls_total") == 300
    assert metered.total("llm_cost_usd_total") == 300
    assert metered.total("llm_cost_usd_total", token_type="other", provider="other") > 200
    assert metered.total("llm_budget_rejected_calls_total") == 300
    assert metered.total("llm_budget_rejected_calls_total", budget="other") > 200
    assert metered.total("llm_exporter_series_over_limit_total") > 200
    assert metered.total("llm_exporter_series") <= 132
    metered.pipeline.metrics.count(DROPPED, 1, "memory")
    assert metered.total("llm_exporter_dropped_calls_total", reason="memory") == 1


def test_a_call_in_flight_is_counted_down_where_it_was_counted_up(metered: Metered) -> None:
    """Also if the limit on the number of series is reached meanwhile."""
    metrics = metered.pipeline.metrics
    call = a_call(labels={"agent": "early", "phase": "plan"})
    metrics.started(call)
    metered.pipeline.configure(Config(max_series=1))
    late = a_call(labels={"agent": "late", "phase": "plan"})
    metrics.started(late)
    assert metered.total("llm_calls_in_flight", agent="early") == 1
    assert metered.total("llm_calls_in_flight", agent="other") == 1
    metrics.ended(call, {}, retrieved=False)
    metrics.ended(late, {}, retrieved=False)
    metrics.ended(a_call(), {}, retrieved=False)
    assert set(metered.samples("llm_calls_in_flight").values()) == {0}


def test_a_failed_call_is_counted_under_the_model_that_answered_before(metered: Metered) -> None:
    """91 of 100 calls to a short name succeed and report the exact model. It failed in 9 %."""
    exact = "gpt-4o-2024-08-06"
    record = metered.pipeline.metrics.record
    for number in range(100):
        if number % 11 == 10:
            record(a_call(requested_model="gpt-4o", error="overloaded", retries=["timeout"]))
        else:
            record(a_call(requested_model="gpt-4o", model=exact))
    of_model = {**BASE, "model": exact}
    assert metered.samples("llm_calls_total") == {("planner", exact, "chat", "plan", "openai"): 100}
    assert metered.samples("llm_call_errors_total", **of_model) == {("overloaded", "chat"): 9}
    assert metered.samples("llm_latency_seconds_count", **of_model) == {("chat",): 100}
    assert metered.samples("llm_retries_total", **of_model) == {("timeout",): 9}


def test_a_failed_call_keeps_the_requested_name_until_that_name_has_answered(metered: Metered) -> None:
    """Another provider's answer, an unread request, and a call without a requested name teach nothing."""
    record = metered.pipeline.metrics.record
    record(a_call(requested_model="gpt-4o", provider="azure", model="gpt-4o-2024-08-06"))
    record(a_call(requested_model="gpt-4o", route="POST /v1/things", model="unknown"))
    record(a_call(model="gpt-4o-2024-08-06"))
    record(a_call(requested_model="gpt-4o", error="timeout"))
    assert metered.samples("llm_call_errors_total", **BASE) == {("timeout", "chat"): 1}


def test_a_call_that_fails_after_its_model_answered_is_counted_under_that_model(metered: Metered) -> None:
    record = metered.pipeline.metrics.record
    record(a_call(requested_model="gpt-4o", model="gpt-4o-2024-08-06"))
    record(a_call(requested_model="gpt-4o", model="gpt-4o-2024-11-20", error="cancelled"))
    assert metered.total("llm_call_errors_total", model="gpt-4o-2024-11-20") == 1


def test_the_thousandth_and_first_requested_name_makes_the_oldest_forgotten(metered: Metered) -> None:
    record = metered.pipeline.metrics.record
    metered.pipeline.configure(Config(max_series=100_000))
    for number in range(1001):
        record(a_call(requested_model=f"name-{number}", model="zebra-9"))
    for number in range(1001):
        record(a_call(requested_model=f"name-{number}", model=f"name-{number}", error="timeout"))
    assert metered.total("llm_call_errors_total", model="name-0") == 1
    assert metered.total("llm_call_errors_total", model="zebra-9") == 1000


def test_calls_in_flight_are_counted_under_the_model_that_will_probably_answer(metered: Metered) -> None:
    """And are counted down there, although another model has answered meanwhile."""
    metrics = metered.pipeline.metrics
    first, second = (a_call(requested_model="gpt-4o") for _ in range(2))
    metrics.started(first)
    metrics.record(a_call(requested_model="gpt-4o", model="gpt-4o-2024-08-06"))
    metrics.started(second)
    assert metered.total("llm_calls_in_flight", model="gpt-4o") == 1
    assert metered.total("llm_calls_in_flight", model="gpt-4o-2024-08-06") == 1
    metrics.record(a_call(requested_model="gpt-4o", model="gpt-4o-2024-11-20"))
    for call in (first, second):
        metrics.ended(call, {}, retrieved=False)
    assert set(metered.samples("llm_calls_in_flight").values()) == {0}


def test_rate_limits_in_the_response_of_a_failed_call_are_those_of_the_model(metered: Metered) -> None:
    metrics = metered.pipeline.metrics
    metrics.record(a_call(requested_model="gpt-4o", model="gpt-4o-2024-08-06"))
    failed = a_call(requested_model="gpt-4o", error="rate_limited")
    metrics.ended(failed, {"x-ratelimit-remaining-requests": "0"}, retrieved=False)
    assert metered.samples("llm_rate_limit_remaining") == {("gpt-4o-2024-08-06", "openai", "requests"): 0}


def test_a_long_label_gives_a_small_scrape(metered: Metered) -> None:
    labels = {"agent": "a" * 10_000_000, "phase": "p\n" * 10_000_000}
    metered.pipeline.metrics.record(a_call(labels=labels, tokens={"input": 1, "output": 2}))
    text, _ = scraped(metered)
    assert len(text) < 100_000
    assert metered.total("llm_calls_total", agent="a" * 256, phase="p?" * 128) == 1


def test_rate_limits_of_made_up_resources_are_bounded(metered: Metered) -> None:
    metered.pipeline.configure(Config(max_series=50))
    for number in range(300):
        name = f"x-ratelimit-remaining-{'abcdefghij'[number % 10]}-{'a' * (number // 10)}"
        metered.pipeline.metrics.ended(a_call(), {name: "1"}, retrieved=True)
    assert metered.total("llm_exporter_series") <= 66
