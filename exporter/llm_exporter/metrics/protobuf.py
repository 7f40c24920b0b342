"""Encodes families in the Prometheus protobuf format, which alone carries the start of each series.

Messages and field numbers are those of
https://github.com/prometheus/client_model/blob/master/io/prometheus/client/metrics.proto. They are few enough
to encode by hand (https://protobuf.dev/programming-guides/encoding/); the protobuf package would be a large
dependency of every metered program.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from .families import Family, HistogramFamily
from .native import SCHEMA, ZERO, ZERO_THRESHOLD
from .rendering import in_pieces
from .series import Exemplar, Histogram, Scalar
from .zero_first import ZeroFirst

CONTENT_TYPE: Final = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
_TYPES: Final = {"counter": 0, "gauge": 1, "histogram": 4}
"""The values of the enumeration MetricType."""
_COUNTER, _GAUGE, _HISTOGRAM = 3, 2, 7
"""The fields of a Metric."""

Encoder = Callable[[tuple[str, ...], Any], bytes]
"""Encodes one series as a Metric, given the values of its labels."""


def encoded(
    families: Iterable[Family[Any]], zero_first: ZeroFirst | None, *, scraped: float = 0.0
) -> Iterator[bytes]:
    """Yield a MetricFamily for each family that has series, preceded by its length, piece by piece.

    Args:
        families: the families to encode.
        zero_first: decides which series are shown at 0; None if no Prometheus asks.
        scraped: when a Prometheus asked, in seconds since the Unix epoch; later starts are left out.
    """
    for family in families:
        encode = (
            _histogram(family, scraped) if isinstance(family, HistogramFamily) else _scalar(family, scraped)
        )
        pieces = [b"".join(series) for series in in_pieces(family, zero_first, encode)]
        if not pieces:
            continue  # as in the client libraries, so not every scraper may expect it
        head = _text(1, family.name) + _text(2, family.help) + _uint(3, _TYPES[family.type])
        yield _varint(len(head) + sum(map(len, pieces))) + head
        yield from pieces


def _scalar(family: Family[Scalar], scraped: float) -> Encoder:
    if family.type == "gauge":
        return lambda values, one: _metric(family, values, _GAUGE, _double(1, one.value))
    return lambda values, one: _metric(
        family,
        values,
        _COUNTER,
        _double(1, one.value) + _exemplar(2, one.exemplar) + _start(3, one.started, scraped),
    )


def _histogram(family: HistogramFamily, scraped: float) -> Encoder:
    bounds = [_double(2, bound) for bound in family.bounds.values()]

    def encode(values: tuple[str, ...], one: Histogram) -> bytes:
        # Read first: the other buckets then have all of its values, and perhaps one more.
        native = None if one.native is None else one.native.counts()
        counts = one.cumulative_counts()
        if native is not None:  # a Prometheus rejects a count that differs from the sum of the native buckets
            total = sum(native.values())
            counts = [min(count, total) for count in counts]
        buckets = [_uint(1, count) + bound for count, bound in zip(counts, bounds, strict=True)]
        for index, exemplar in tuple(one.exemplars.items()):
            buckets[index] += _exemplar(3, exemplar)
        count_and_sum = _uint(1, counts[-1]) + _double(2, one.sum)
        start = _start(15, one.started, scraped)
        in_fields = b"".join([_message(3, bucket) for bucket in buckets])
        exponential = b"" if native is None else _exponential(native)
        return _metric(family, values, _HISTOGRAM, count_and_sum + in_fields + exponential + start)

    return encode


def _exponential(counts: dict[int, int]) -> bytes:
    """Return the fields of exponential buckets: spans of neighbors, and the differences of their counts."""
    zero = _double(6, ZERO_THRESHOLD) + _uint(7, counts.pop(ZERO, 0))
    spans: list[tuple[int, int]] = []  # the gap before each, and its length
    deltas: list[bytes] = []
    end = before = 0
    for index, count in sorted(counts.items()):
        if spans and index == end:
            spans[-1] = spans[-1][0], spans[-1][1] + 1
        else:
            spans.append((index - end, 1))
        deltas.append(_sint(13, count - before))
        end, before = index + 1, count
    in_spans = [_message(12, _sint(1, gap) + _uint(2, length)) for gap, length in spans]
    return b"".join((_sint(5, SCHEMA), zero, *in_spans, *deltas))


def _metric(family: Family[Any], values: tuple[str, ...], field: int, content: bytes) -> bytes:
    labels = b"".join([_label(name, value) for name, value in family.named(values)])
    return _message(4, labels + _message(field, content))


@lru_cache(4096)  # most series share most of their labels
def _label(name: str, value: str) -> bytes:
    return _message(1, _text(1, name) + _text(2, value))


def _exemplar(field: int, exemplar: Exemplar | None) -> bytes:
    if exemplar is None:
        return b""
    trace = _label("trace_id", exemplar.trace_id)
    return _message(field, trace + _double(2, exemplar.value) + _timestamp(3, exemplar.time))


def _start(field: int, started: float | None, scraped: float) -> bytes:
    # A series cannot start after its first sample. One that was created during the scrape has none yet.
    return b"" if started is None or started >= scraped else _timestamp(field, started)


def _timestamp(field: int, seconds: float) -> bytes:
    whole, nanoseconds = divmod(round(seconds * 1000), 1000)  # Prometheus has milliseconds
    return _message(field, _uint(1, whole) + _uint(2, nanoseconds * 1_000_000))


def _message(field: int, content: bytes) -> bytes:
    length = len(content)
    return _BYTES[field << 3 | 2] + (_BYTES[length] if length < 0x80 else _varint(length)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _double(field: int, number: float) -> bytes:
    return _pack_double(field << 3 | 1, number)


def _uint(field: int, number: int) -> bytes:
    return _BYTES[field << 3] + (_BYTES[number] if number < 0x80 else _varint(number))


def _sint(field: int, number: int) -> bytes:
    return _uint(field, number * 2 if number >= 0 else -number * 2 - 1)


def _varint(number: int) -> bytes:
    septets = bytearray()
    while number >= 0x80:
        septets.append(number & 0x7F | 0x80)
        number >>= 7
    septets.append(number)
    return bytes(septets)


_BYTES: Final = [bytes((number,)) for number in range(0x80)]
"""The one byte of small numbers: those of fields, and most counts and lengths."""
_pack_double: Final = struct.Struct("<Bd").pack
