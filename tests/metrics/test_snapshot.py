"""Counters and histograms continue after a restart."""

from __future__ import annotations

from llm_exporter.config.model import Config
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.saved_sample import SavedSample
from support.calls import a_call


def counted(metrics: Metrics) -> list[SavedSample]:
    """Return the samples of calls that have a value, in a stable order."""
    samples = [sample for sample in metrics.snapshot() if sample.value and "agent" in sample.labels]
    return sorted(samples, key=lambda sample: (sample.sample, sorted(sample.labels.items())))


def test_a_restored_snapshot_equals_the_saved_one_and_counts_on() -> None:
    before, after = Metrics(), Metrics()
    before.record(a_call())
    after.restore(before.snapshot())
    assert counted(after) == counted(before)
    before.record(a_call(duration=40.0))
    after.record(a_call(duration=40.0))
    assert counted(after) == counted(before)


def test_approximate_costs_and_unread_requests_continue_after_a_restart() -> None:
    def value(metrics: Metrics) -> dict[str, float]:
        names = "llm_price_approximated_tokens_total", "llm_exporter_unread_requests_total"
        return {sample.family: sample.value for sample in metrics.snapshot() if sample.family in names}

    before, after = Metrics(), Metrics()
    before.record(a_call(approximated={"tier": 120}))
    before.record(a_call(operation="unread", route="POST /v1/things"))
    after.restore(before.snapshot())
    after.record(a_call(approximated={"tier": 120}))
    after.record(a_call(operation="unread", route="POST /v1/things"))
    assert value(after) == {
        "llm_price_approximated_tokens_total": 240,
        "llm_exporter_unread_requests_total": 2,
    }


def test_the_limit_of_routes_includes_routes_from_before_a_restart() -> None:
    before, after = Metrics(), Metrics()
    for number in range(100):
        before.record(a_call(operation="unread", route=f"POST /v1/things{number}"))
    after.restore(before.snapshot())
    for number in (99, 100):
        after.record(a_call(operation="unread", route=f"POST /v1/things{number}"))
    family = "llm_exporter_unread_requests_total"
    by_route = {
        sample.labels["route"]: sample.value for sample in after.snapshot() if sample.family == family
    }
    assert len(by_route) == 101
    assert (by_route["POST /v1/things99"], by_route["other"]) == (2, 1)


def test_gauges_are_not_saved() -> None:
    metrics = Metrics()
    metrics.started(a_call())
    assert not [sample for sample in metrics.snapshot() if "in_flight" in sample.sample]


def test_a_metric_of_another_release_is_ignored() -> None:
    metrics = Metrics()
    metrics.restore([SavedSample("llm_gone_total", "llm_gone_total", {"agent": "planner"}, 3.0)])
    assert counted(metrics) == []


def test_restored_labels_are_kept_beyond_the_series_limit() -> None:
    before, after = Metrics(), Metrics(Config(max_series=1))
    before.record(a_call())
    after.restore(before.snapshot())
    after.record(a_call())
    after.record(a_call(labels={"agent": "new"}))
    calls = {
        sample.labels["agent"]: sample.value
        for sample in counted(after)
        if sample.family == "llm_calls_total"
    }
    assert calls == {"planner": 2.0, "other": 1.0}


def test_a_removed_label_is_dropped_and_a_new_one_is_unattributed() -> None:
    before, after = Metrics(Config(labels=("team",))), Metrics(Config(labels=("tier",)))
    before.record(a_call(labels={"team": "search"}))
    after.restore(before.snapshot())
    (calls,) = [sample for sample in counted(after) if sample.family == "llm_calls_total"]
    assert calls.labels["tier"] == "unattributed"
    assert "team" not in calls.labels
