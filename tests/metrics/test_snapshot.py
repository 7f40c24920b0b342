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
