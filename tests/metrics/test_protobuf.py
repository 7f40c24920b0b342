"""The protobuf format. `test_hostile_labels.py` has a real Prometheus read it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from llm_exporter.metrics.collector import Metrics
from llm_exporter.metrics.families import Family, HistogramFamily, ScalarFamily, VaryingGauges
from llm_exporter.metrics.protobuf import encoded
from llm_exporter.metrics.series import Exemplar
from llm_exporter.metrics.zero_first import ZeroFirst
from support.calls import a_call
from support.protobuf_messages import Fields, delimited, fields

SCRAPED = 2000.0
COUNTER, GAUGE, HISTOGRAM = 3, 2, 7


def encoding(*families: Family[Any], zero_first: ZeroFirst | None = None) -> bytes:
    return b"".join(encoded(families, zero_first, scraped=SCRAPED))


def labels_of(metric: Fields) -> dict[str, str]:
    pairs = [fields(pair) for pair in metric[1]]
    return {pair[1][0].decode(): pair[2][0].decode() for pair in pairs}


def metrics_of(family: Fields) -> list[Fields]:
    return [fields(metric) for metric in family[4]]


def starts(content: Iterable[bytes], name: str) -> list[float | None]:
    """Return the start of each series of a counter."""
    (family,) = [one for one in delimited(b"".join(content)) if one[1] == [name.encode()]]
    counters = [fields(metric[COUNTER][0]) for metric in metrics_of(family)]
    return [seconds(counter[3][0]) if counter[3] else None for counter in counters]


def seconds(timestamp: bytes) -> float:
    found = fields(timestamp)
    return float(found[1][0] + found[2][0] / 1e9)


def test_a_counter_has_these_bytes() -> None:
    family = ScalarFamily("c_total", "counter", "Hé.", ["a"])
    counter = family.at(("x",))
    counter.inc(300)
    counter.started = 1500.25
    counter.exemplar = Exemplar("ab", 2.0, 1600.0)
    label = b"\x0a\x06" + b"\x0a\x01a" + b"\x12\x01x"
    exemplar = (
        b"\x12\x20"  # field 2, 32 bytes
        + b"\x0a\x0e\x0a\x08trace_id\x12\x02ab"
        + b"\x11\x00\x00\x00\x00\x00\x00\x00\x40"  # 2.0
        + b"\x1a\x05\x08\xc0\x0c\x10\x00"  # 1600 s
    )
    # 1500 s and 250,000,000 ns, which is 0xEE6B280.
    start = b"\x1a\x08\x08\xdc\x0b\x10\x80\xe5\x9a\x77"
    value = b"\x09\x00\x00\x00\x00\x00\xc0\x72\x40"  # 300.0
    counter_message = value + exemplar + start
    metric = label + b"\x1a" + bytes((len(counter_message),)) + counter_message
    head = b"\x0a\x07c_total" + b"\x12\x04H\xc3\xa9." + b"\x18\x00"
    message = head + b"\x22" + bytes((len(metric),)) + metric
    assert encoding(family) == b"\x52" + message  # 82 bytes


def test_a_histogram_has_its_buckets_and_its_start() -> None:
    family = HistogramFamily("h", "Help.", ["a"], [1.0, 2.0])
    histogram = family.at(("x",))
    for number in (0.5, 1.5, 1.5, 9.0):
        histogram.observe(number)
    histogram.illustrate(Exemplar("ab", 1.5, 1600.5))
    histogram.started = 1500.0
    (found,) = delimited(encoding(family))
    assert (found[1], found[2], found[3]) == ([b"h"], [b"Help."], [4])
    (metric,) = metrics_of(found)
    assert labels_of(metric) == {"a": "x"}
    message = fields(metric[HISTOGRAM][0])
    assert (message[1], message[2], seconds(message[15][0])) == ([4], [12.5], 1500.0)
    buckets = [fields(bucket) for bucket in message[3]]
    assert [(bucket[1][0], bucket[2][0]) for bucket in buckets] == [(1, 1.0), (3, 2.0), (4, math.inf)]
    (exemplar,) = buckets[1][3]
    assert fields(exemplar)[2] == [1.5]
    assert seconds(fields(exemplar)[3][0]) == 1600.5
    assert not buckets[0][3]


def test_gauges_have_their_labels_and_no_start() -> None:
    family = VaryingGauges("g", "gauge", "Help.", [])
    family.replace([({"agent": "x", "budget": "\ud800"}, -2.5), ({"budget": "b"}, math.inf)])
    (found,) = delimited(encoding(family))
    first, second = metrics_of(found)
    assert (labels_of(first), fields(first[GAUGE][0])) == ({"agent": "x", "budget": "?"}, {1: [-2.5]})
    assert (labels_of(second), fields(second[GAUGE][0])) == ({"budget": "b"}, {1: [math.inf]})


def test_a_family_without_series_is_left_out_and_a_large_one_is_one_message() -> None:
    large = ScalarFamily("large", "gauge", "Help.", ["a"])
    for number in range(1300):
        large.at((str(number),)).set(number)
    (found,) = delimited(encoding(ScalarFamily("none", "gauge", "Help.", ["a"]), large))
    assert [fields(metric[GAUGE][0])[1][0] for metric in metrics_of(found)] == list(range(1300))


def test_a_held_series_is_0_and_keeps_its_start() -> None:
    zero_first = ZeroFirst(15)
    counter = ScalarFamily("c_total", "counter", "Help.", ["a"])
    histogram = HistogramFamily("h", "Help.", ["a"], [1.0])
    for agent in ("known", "new"):
        counter.at((agent,)).inc(3)
        counter.at((agent,)).started = 1500.0
        histogram.at((agent,)).observe(0.5)
        histogram.at((agent,)).started = 1500.0
    zero_first.hold(("c_total", "new"))
    zero_first.hold(("h", "new"))
    counters, histograms = delimited(encoding(counter, histogram, zero_first=zero_first))
    values = [fields(metric[COUNTER][0]) for metric in metrics_of(counters)]
    assert [(value[1][0], seconds(value[3][0])) for value in values] == [(3.0, 1500.0), (0.0, 1500.0)]
    values = [fields(metric[HISTOGRAM][0]) for metric in metrics_of(histograms)]
    assert [(value[1][0], value[2][0], seconds(value[15][0])) for value in values] == [
        (1, 0.5, 1500.0),
        (0, 0.0, 1500.0),
    ]


def test_a_start_after_the_scrape_is_left_out() -> None:
    family = ScalarFamily("c_total", "counter", "Help.", ["a"])
    for agent, started in (("earlier", SCRAPED - 1), ("during", SCRAPED), ("unknown", None)):
        family.at((agent,)).started = started
    assert starts([encoding(family)], "c_total") == [SCRAPED - 1, None, None]


def test_only_a_prometheus_is_told_when_series_started() -> None:
    """Other programs see values before 0 was shown, so that a start could count them twice."""
    metrics = Metrics()
    metrics.record(a_call())
    (start,) = starts(metrics.protobuf(scrape=True), "llm_calls_total")
    assert start is not None
    assert starts(metrics.protobuf(scrape=False), "llm_calls_total") == [None]


def test_a_series_that_continues_after_a_restart_has_no_start() -> None:
    """Prometheus would insert a 0 at its start, and count the whole value again."""
    before = Metrics()
    before.record(a_call(model="old"))
    after = Metrics()
    after.restore(before.snapshot())
    after.resume(
        [
            ("llm_calls_total", "openai", "old", "planner", "plan", "chat"),
            ("llm_calls_total", "of", "another", "release"),
            ("no_such_metric",),
        ]
    )
    after.record(a_call(model="new"))
    old, new = starts(after.protobuf(scrape=True), "llm_calls_total")
    assert old is None
    assert new is not None
