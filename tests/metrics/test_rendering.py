"""Our text is equivalent to that of prometheus_client."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.utils import floatToGoString

from llm_exporter.bounds import clean_text
from llm_exporter.metrics.families import Family, HistogramFamily, ScalarFamily
from llm_exporter.metrics.rendering import rendered
from llm_exporter.metrics.series import Histogram as OurHistogram
from llm_exporter.metrics.series import MetricType, Scalar, number_text
from llm_exporter.metrics.zero_first import ZeroFirst

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ['a"b', "a\\nb\\", "\n", ""]
)
NAMES = st.lists(st.sampled_from(["agent", "model", "phase", "_x", "A9"]), unique=True, max_size=3)
AMOUNTS = st.floats(0, allow_infinity=False, allow_nan=False) | st.integers(0, 10**12)
BOUNDS = st.lists(st.sampled_from([0.05, 0.1, 1, 2.5, 30, 1e6, 1e7, 12345678.9]), unique=True, min_size=1)


@st.composite
def families(draw: st.DrawFn) -> tuple[Family[Any], Any]:
    """Return one of our families and an equal one of prometheus_client."""
    kind: MetricType = draw(st.sampled_from(get_args(MetricType)))
    names = draw(NAMES)
    help_ = draw(TEXT)
    bounds = sorted(draw(BOUNDS)) if kind == "histogram" else []
    name = f"f{draw(st.integers(0, 10**9))}" + ("_total" if kind == "counter" else "")
    ours: Family[Any]
    theirs: Any
    if kind == "histogram":
        ours = HistogramFamily(name, help_, names, bounds)
        theirs = Histogram(name, help_, names, buckets=bounds, registry=None)
    else:
        ours = ScalarFamily(name, kind, help_, names)
        theirs = (Counter if kind == "counter" else Gauge)(name, help_, names, registry=None)
    values = st.tuples(*[TEXT] * len(names))
    numbers = st.floats() if kind == "gauge" else AMOUNTS
    if not names:
        ours.at(())
    for labels, number in draw(st.lists(st.tuples(values, numbers), max_size=6)):
        child = theirs.labels(*map(clean_text, labels)) if names else theirs
        feed(ours.at(labels), kind, number)
        feed(child, kind, number)
    return ours, theirs


def feed(series: Any, kind: str, number: float) -> None:
    getattr(series, {"counter": "inc", "gauge": "set", "histogram": "observe"}[kind])(number)


def ours_as_text(
    families: Iterable[Family[Any]], *, openmetrics: bool, zero_first: ZeroFirst | None = None
) -> str:
    return b"".join(rendered(families, zero_first, openmetrics=openmetrics)).decode()


def parsed(text: str, parse: Callable[[str], Any]) -> Any:
    """Return the families of a text, and their samples by name and labels, with comparable values."""
    return {
        family.name: (
            family.type,
            family.documentation,
            {
                (sample.name, *sorted(sample.labels.items())): repr(float(sample.value))
                for sample in family.samples
                if not sample.name.endswith("_created")
            },
        )
        for family in parse(text)
        if not family.name.endswith("_created")  # which we do not write
    }


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@settings(deadline=None)
@given(pairs=st.lists(families(), max_size=4, unique_by=lambda pair: pair[0].name.removesuffix("_total")))
def test_our_text_parses_like_that_of_prometheus_client(
    pairs: list[tuple[Family[Any], Any]], *, openmetrics: bool
) -> None:
    registry = CollectorRegistry()
    for _, theirs in pairs:
        registry.register(theirs)
    parse = parse_openmetrics if openmetrics else parse_text
    theirs = (generate_openmetrics if openmetrics else generate_latest)(registry).decode()
    text = ours_as_text([ours for ours, _ in pairs], openmetrics=openmetrics)
    assert parsed(text, parse) == parsed(theirs, parse)
    assert text.endswith("# EOF\n") == openmetrics


@settings(deadline=None)
@given(pair=families())
def test_a_registry_collects_the_same_samples(pair: tuple[Family[Any], Any]) -> None:
    class Collected:
        def collect(self) -> Iterable[Any]:
            yield pair[0].metric()

    registry = CollectorRegistry()
    registry.register(cast("Any", Collected()))
    theirs = CollectorRegistry()
    theirs.register(pair[1])
    assert parsed(generate_latest(registry).decode(), parse_text) == parsed(
        generate_latest(theirs).decode(), parse_text
    )


def test_only_held_series_are_shown_at_0() -> None:
    zero_first = ZeroFirst(15)
    counter = ScalarFamily("f_total", "counter", "Help.", ["agent"])
    histogram = HistogramFamily("h", "Help.", ["agent"], [1.0])
    for agent in ("known", "new"):
        counter.at((agent,)).inc(3)
        histogram.at((agent,)).observe(0.5)
    zero_first.hold(("f_total", "new"))
    zero_first.hold(("h", "new"))
    text = ours_as_text([counter, histogram], openmetrics=False, zero_first=zero_first)
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'f_total{agent="known"} 3.0',
        'f_total{agent="new"} 0.0',
        'h_bucket{agent="known",le="1.0"} 1',
        'h_bucket{agent="known",le="+Inf"} 1',
        'h_count{agent="known"} 1',
        'h_sum{agent="known"} 0.5',
        'h_bucket{agent="new",le="1.0"} 0',
        'h_bucket{agent="new",le="+Inf"} 0',
        'h_count{agent="new"} 0',
        'h_sum{agent="new"} 0.0',
    ]


def test_infinity_and_nan_are_written_as_the_formats_require() -> None:
    family = ScalarFamily("g", "gauge", "Help.", ["agent"])
    for number in (math.inf, -math.inf, math.nan, 12.5):
        family.at((str(number),)).set(number)
    lines = ours_as_text([family], openmetrics=True).splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("g{")] == ["+Inf", "-Inf", "NaN", "12.5"]


@pytest.mark.parametrize("number", [-1, math.inf, math.nan])
def test_an_amount_that_would_spoil_a_sum_raises(number: float) -> None:
    counter = Scalar("")
    histogram = OurHistogram("", {"+Inf": math.inf})
    with pytest.raises(ValueError, match="cannot increase a counter by"):
        counter.inc(number)
    with pytest.raises(ValueError, match="cannot observe"):
        histogram.observe(number)
    assert counter.value == 0
    assert [sample[2] for sample in histogram.samples()] == [0, 0, 0]


def test_a_restored_histogram_continues_with_the_buckets_that_remain() -> None:
    family = HistogramFamily("h", "Help.", (), [1.0, 2.0])
    before = family.at(())
    for value in (0.5, 1.5, 9.0):
        before.observe(value)
    after = HistogramFamily("h", "Help.", (), [1.0, 5.0]).at(())
    for sample in before.samples():
        after.add(sample)
    after.observe(3.0)
    assert list(after.samples()) == [
        ("_bucket", "1.0", 1),
        ("_bucket", "5.0", 1),
        ("_bucket", "+Inf", 4),
        ("_count", "", 4),
        ("_sum", "", 14.0),
    ]


@pytest.mark.parametrize(
    "number",
    [
        *(0, -0.0, 1, 0.1, 1e-5, 1.5e-300, 86400.0, 999999.0, 1e6, 1234567.0, 1234567.25, -1e7),
        *(1e15, 1e16, 1e21, 1e300, 2**53, 1764374400.0, 1764374400.123, math.inf, -math.inf, math.nan),
    ],
)
def test_a_number_is_written_as_by_the_client_library(number: float) -> None:
    written: str = floatToGoString(number)  # type: ignore[no-untyped-call]
    assert number_text(number) == written.replace("e+01", "e+1")  # older releases write a zero too many
