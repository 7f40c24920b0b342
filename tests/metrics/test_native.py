"""Exponential buckets. `test_native_in_prometheus.py` has a real Prometheus read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config
from llm_exporter.errors import ConfigError
from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.families import HistogramFamily
from llm_exporter.metrics.multiprocess import SharedStorage
from llm_exporter.metrics.native import HIGHEST, ZERO, NativeBuckets, index_of
from llm_exporter.metrics.protobuf import encoded
from llm_exporter.metrics.saved_sample import SavedSample
from llm_exporter.metrics.series import Histogram
from llm_exporter.metrics.zero_first import ZeroFirst
from support.calls import a_call
from support.protobuf_messages import Fields, delimited, fields

NATIVE = Config(native_histograms=True)
HISTOGRAM = 7


def signed(number: int) -> int:
    """Return the integer that a sint32 or sint64 encodes."""
    return number >> 1 ^ -(number & 1)


def buckets(message: Fields) -> dict[int, int]:
    """Return the counts by index of a Histogram message, as the specification says."""
    assert message[5] == [6]  # schema 3
    assert message[6] == [2**-10]
    found = {ZERO: number} if (number := message[7][0]) else {}
    index = count = 0
    deltas = iter(message[13])
    for span in map(fields, message[12]):
        index += signed(span[1][0])
        for _ in range(span[2][0]):
            count += signed(next(deltas))
            found[index] = count
            index += 1
    assert not list(deltas)
    return found


def histograms(content: Any, name: str) -> list[Fields]:
    (family,) = [one for one in delimited(b"".join(content)) if one[1] == [name.encode()]]
    return [fields(fields(metric)[HISTOGRAM][0]) for metric in family[4]]


def latency(metrics: Metrics) -> Fields:
    (message,) = histograms(metrics.protobuf(scrape=False), "llm_latency_seconds")
    return message


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (1, 0),
        (1.0000001, 1),
        (1.5, 5),  # log2(1.5) * 8 = 4.7
        (2, 8),
        (0.5, -8),
        (0.75, -3),  # -3.3
        (60, 48),  # 47.3
        (0, ZERO),
        (5e-324, ZERO),
        (2**-10, ZERO),
        (2**-10 + 1e-12, -79),
        (2.0**20, 160),
        (2.0**20 + 1, HIGHEST),
        (1e12, HIGHEST),
    ],
)
def test_the_bucket_of_a_value(value: float, index: int) -> None:
    assert (ZERO, HIGHEST) == (-80, 160)
    assert index_of(value) == index


@given(st.floats(2**-10, 2**20, exclude_min=True))
@example(2 ** (5 / 8))
def test_a_value_is_within_its_bucket(value: float) -> None:
    index = index_of(value)
    assert 2 ** ((index - 1) / 8) < value * (1 + 1e-15)
    assert value <= 2 ** (index / 8) * (1 + 1e-15)


def test_exponential_buckets_have_these_bytes() -> None:
    family = HistogramFamily("h", "", [], [], native=True)
    for value in (0, 1, 1.05, 2, 2, 0.5):  # in the buckets ZERO, 0, 1, 8, 8, -8
        family.at(()).observe(value)
    native = (
        b"\x28\x06"  # schema 3
        + b"\x31\x00\x00\x00\x00\x00\x00\x50\x3f"  # 2^-10
        + b"\x38\x01"  # 1 value in the zero bucket
        + b"\x62\x04\x08\x0f\x10\x01"  # from -8: 1 bucket
        + b"\x62\x04\x08\x0e\x10\x02"  # 7 after it: 2
        + b"\x62\x04\x08\x0c\x10\x01"  # 6 after them: 1
        + b"\x68\x02\x68\x00\x68\x00\x68\x02"  # the counts 1, 1, 1, 2
    )
    assert b"".join(encoded([family], None)).endswith(native)


def test_a_call_is_in_classic_and_exponential_buckets() -> None:
    metrics = Metrics(NATIVE)
    for duration in (1.5, 1.5, 40.0):
        metrics.record(a_call(duration=duration, time_to_first_token=0.75))
    message = latency(metrics)
    assert (message[1], message[2]) == ([3], [43.0])
    assert [fields(bucket)[1][0] for bucket in message[3]] == [0, 0, 0, 0, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]
    assert buckets(message) == {5: 2, 43: 1}  # log2(40) * 8 = 42.6
    (first_token,) = histograms(metrics.protobuf(scrape=False), "llm_time_to_first_token_seconds")
    assert buckets(first_token) == {-3: 3}


def test_without_the_setting_there_are_no_exponential_buckets() -> None:
    metrics = Metrics()
    metrics.record(a_call())
    assert set(latency(metrics)) == {1, 2, 3}


def test_a_held_histogram_is_a_native_one_without_values() -> None:
    """If its first sample were a classic one, Prometheus would store both kinds."""
    family = HistogramFamily("h", "Help.", ["a"], [1.0], native=True)
    family.at(("x",)).observe(2)
    zero_first = ZeroFirst(15)
    zero_first.hold(("h", "x"))
    (message,) = histograms(encoded([family], zero_first), "h")
    assert (message[1], message[2], message[7]) == ([0], [0.0], [0])
    assert buckets(message) == {}


def test_the_number_of_values_is_that_of_the_exponential_buckets() -> None:
    """Prometheus rejects all metrics if a value is counted between reading the two kinds of buckets."""

    class CountedMeanwhile(NativeBuckets):
        def counts(self) -> dict[int, int]:
            counts = super().counts()
            family.at(()).observe(0.5)
            return counts

    family = HistogramFamily("h", "Help.", [], [1.0, 2.0])
    histogram = family.at(())
    histogram.native = CountedMeanwhile()
    for value in (0.5, 0.5, 9.0):
        histogram.observe(value)
    (message,) = histograms(encoded([family], None), "h")
    assert message[1] == [3]
    assert buckets(message) == {-8: 2, 26: 1}  # log2(9) * 8 = 25.4
    assert [fields(bucket)[1][0] for bucket in message[3]] == [3, 3, 3]


def restarted(before: Metrics, config: Config) -> Metrics:
    """Return the metrics after a restart, from a snapshot in the form that is stored."""
    saved = msgspec.json.decode(msgspec.json.encode(before.snapshot()), type=list[SavedSample])
    after = Metrics(config)
    after.restore(saved)
    return after


def test_exponential_buckets_continue_after_a_restart() -> None:
    before = Metrics(NATIVE)
    for duration in (1.5, 1.5, 40.0, 0.0):
        before.record(a_call(duration=duration))
    after = restarted(before, NATIVE)
    assert latency(after) == latency(before)
    after.record(a_call(duration=40.0))
    assert buckets(latency(after)) == {ZERO: 1, 5: 2, 43: 2}


def test_values_from_before_the_setting_count_as_their_mean() -> None:
    """Their number is right, and Prometheus computes rates from later values only."""
    before = Metrics()
    for duration in (1.0, 5.0):
        before.record(a_call(duration=duration))
    after = restarted(before, NATIVE)
    assert buckets(latency(after)) == {13: 2}  # log2(3) * 8 = 12.7
    after.record(a_call(duration=1.0))
    assert (latency(after)[1], buckets(latency(after))) == ([3], {0: 1, 13: 2})


def test_the_setting_can_be_switched_off_again() -> None:
    before = Metrics(NATIVE)
    before.record(a_call(duration=1.5))
    off = restarted(before, Config())
    assert set(latency(off)) == {1, 2, 3}
    assert latency(off)[1] == [1]
    off.record(a_call(duration=1.5))
    assert buckets(latency(restarted(off, NATIVE))) == {5: 2}


@pytest.mark.parametrize("saved", [{5: 3}, {5: 1}, {5: 3, 6: -1}, {161: 2}, {-81: 2}])
def test_saved_buckets_that_are_wrong_are_not_used(saved: dict[int, int]) -> None:
    native = NativeBuckets()
    native.restore(saved, 2, 3.0)
    assert native.counts() == {13: 2}


def test_an_earlier_release_ignores_saved_exponential_buckets() -> None:
    histogram = Histogram("", {"+Inf": float("inf")})
    histogram.add(("_native", "", 5.0))
    assert list(histogram.samples()) == [("_bucket", "+Inf", 0), ("_count", "", 0), ("_sum", "", 0.0)]
    assert msgspec.json.decode(b'["f", "f_sum", {}, 1.0]', type=SavedSample).native == {}


def test_the_setting_cannot_change_after_the_first_call(pipeline: Pipeline) -> None:
    pipeline.configure(NATIVE)
    pipeline.record(a_call())
    assert pipeline.flush(30)
    assert buckets(latency(pipeline.metrics))
    with pytest.raises(ConfigError, match=r"^native_histograms: cannot change after the first call"):
        pipeline.configure(Config())


def test_processes_that_share_their_series_have_no_exponential_buckets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(NATIVE, SharedStorage(tmp_path))
    metrics.record(a_call())
    assert set(latency(metrics)) == {1, 2, 3}
    assert "native_histograms has no effect with PROMETHEUS_MULTIPROC_DIR" in caplog.text
