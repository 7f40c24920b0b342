"""Hostile responses to every reader: the call is counted once, and no number is invented."""

from __future__ import annotations

import base64
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_exporter.wire.reader import Reader
from support.hostile import CONTENT_TYPES, check
from support.samples import AWS, JSON, READERS, SAMPLES, SSE, Sample, frame

readers = pytest.mark.parametrize("reader", READERS)
fuzzed = settings(
    deadline=None,
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

HOSTILE = [
    *(b"-1", b"-1e308", b"1e308", b"1e999", b"NaN", b"-Infinity", b"0.5", b"-0.0", b"1e12", b"999999999999"),
    *(b"1" + 30 * b"0", b"-1" + 30 * b"0", b"1" + 5_000 * b"0", b'"12"', b'"1e999"', b'"nan"', b"true"),
    *(b"null", b"[]", b"{}", b'""', b"[1]", b'{"type":1}', b'[{"type":"message","input_tokens":-1}]'),
    *(
        b'"\\ud800"',
        b'"\\udfff\\ud800"',
        b'"\\u0000"',
        b'"\x00"',
        b'"\xff\xfe"',
        b'"\xed\xa0\x80"',
        b'"\n\n"',
    ),
    *(b"\xff", b"", b"}", b'"', b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
]
"""Replacements for a JSON value: an invalid or huge number, another type, or invalid JSON."""


def names() -> list[str]:
    """Return every field name and keyword in the readers' source."""
    source = "".join(inspect.getsource(sys.modules[reader.__module__]) for reader in READERS)
    found = re.findall(r'"([A-Za-z_][\w.]*)"|^    (\w+): (?:Any|msgspec)', source, re.MULTILINE)
    return sorted({name for each in found for name in each if name})


NAMES = names()

values = st.recursive(
    st.sampled_from(HOSTILE)
    | st.integers(0, 10**6).map(lambda number: b"%d" % number)
    | st.sampled_from(NAMES).map(lambda name: json.dumps(name).encode()),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda each: b"[" + b",".join(each) + b"]")
        | st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=8).map(  # may contain a name twice
            lambda pairs: (
                b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in pairs) + b"}"
            )
        )
    ),
    max_leaves=30,
)


def documents(sample: Sample) -> list[Any]:
    """Return the JSON values of a sample: its body or its events."""
    data = sample.data
    if sample.content_type == AWS:
        bodies = re.findall(rb'"bytes": "([^"]*)"', data)
        return [json.loads(base64.b64decode(body)) for body in bodies]
    if sample.content_type == SSE:
        return [json.loads(line[6:]) for line in data.splitlines() if line.startswith(b"data: {")]
    return [json.loads(line) for line in data.split(b"\n") if line]


def framed(documents: Iterable[bytes], content_type: str) -> bytes:
    """Return events in the framing of a content type."""
    if content_type == AWS:
        return b"".join(frame(b'{"bytes":"%b"}' % base64.b64encode(document)) for document in documents)
    if content_type == SSE:
        return b"".join(b"data: %b\n\n" % document for document in documents)
    return b"\n".join(documents)


def written(
    value: Any, changes: dict[int, tuple[bool, bytes]], nodes: Iterator[int], name: bytes = b""
) -> bytes:
    """Return JSON in which some nodes are replaced, or repeated with another value."""
    again, other = changes.get(next(nodes), (False, b""))
    if isinstance(value, dict):
        members = (
            written(each, changes, nodes, json.dumps(key).encode() + b":") for key, each in value.items()
        )
        data = name + b"{" + b",".join(members) + b"}"
    elif isinstance(value, list):
        data = name + b"[" + b",".join(written(each, changes, nodes) for each in value) + b"]"
    else:
        data = name + json.dumps(value, ensure_ascii=False).encode()
    if again:
        return data + b"," + name + other
    return name + other if other else data


@fuzzed
@readers
@given(data=st.data())
def test_response_with_hostile_values_is_counted_once(reader: type[Reader], data: st.DataObject) -> None:
    """Some values of a sample, in the reader's format or another, are replaced."""
    sample = data.draw(st.sampled_from([each for each in SAMPLES if each.reader is reader] + SAMPLES))
    change = st.tuples(st.booleans(), st.sampled_from(HOSTILE) | values)
    changes = data.draw(st.dictionaries(st.integers(0, 60), change, min_size=1, max_size=6))
    nodes = count()
    events = [written(document, changes, nodes) for document in documents(sample)]

    check(reader, [[framed(events, sample.content_type)]], sample.content_type)


@fuzzed
@readers
@given(
    events=st.lists(values | st.sampled_from(HOSTILE) | st.binary(max_size=40), max_size=5),
    framing=st.sampled_from([JSON, SSE, AWS]),
    content_type=st.sampled_from(CONTENT_TYPES),
)
def test_random_response_is_counted_once(
    reader: type[Reader], events: list[bytes], framing: str, content_type: str
) -> None:
    """Known field names appear anywhere, and the content type need not match the framing."""
    check(reader, [[framed(events, framing)]], framing, content_type)


@fuzzed
@readers
@given(data=st.data())
def test_corrupt_response_is_counted_once(reader: type[Reader], data: st.DataObject) -> None:
    """Some bytes are changed, and the chunks have any size."""
    sample = data.draw(st.sampled_from([each for each in SAMPLES if each.reader is reader] + SAMPLES))
    response = bytearray(sample.data)
    places = st.integers(0, len(response) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=9)):
        response[place] = byte
    size = data.draw(st.integers(1, len(response)))
    pieces = [bytes(response[begin : begin + size]) for begin in range(0, len(response), size)]

    check(reader, [pieces], sample.content_type, data.draw(st.sampled_from(CONTENT_TYPES)))
