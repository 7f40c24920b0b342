"""Damaged and hostile responses to every reader: the call is counted once, and no number is invented.

The responses pass through the meter, framing, reader, prices and metrics, as real ones do.
"""

from __future__ import annotations

import base64
import inspect
import json
import math
import re
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_exporter.client import default
from llm_exporter.client.meter import Meter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.retrieval import Outcome, Retrievals
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.wire import framing
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.reader import Reader
from support.metered import Metered
from support.samples import AWS, BYTES, JSON, READERS, SAMPLES, SSE, Sample, frame

readers = pytest.mark.parametrize("reader", READERS)
samples = pytest.mark.parametrize("sample", SAMPLES, ids=str)
fuzzed = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

REQUEST = {"model": "tts-1", "input": "Seven.", "messages": [{"role": "user", "content": "How many?"}]}
PROVIDERS = ("openai", "anthropic", "google", "openrouter", "no-one")
CONTENT_TYPES = (JSON, SSE, AWS, BYTES, "", ";", "text/plain; charset=\xff", "audio/mpeg", "A" * 10_000)

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


def check(reader: type[Reader], responses: Iterable[Iterable[bytes]], *content_types: str) -> None:
    """Meter responses, alternating between streams and bodies and between providers."""
    pipeline = Pipeline()
    pipeline._retrievals = Retrievals(remembered=0)  # do not deduplicate equal responses
    expected: list[int] = []
    finished = pipeline.finished

    def note(outcome: Outcome) -> None:
        expected.append(calls_in(outcome))
        finished(outcome)

    number = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "_pipeline", pipeline)
        patch.setattr(pipeline, "finished", note)
        metered = Metered(pipeline)
        for number, pieces in enumerate(responses, 1):
            for content_type in content_types:
                provider = PROVIDERS[number % len(PROVIDERS)]
                meter = Meter(endpoint=Endpoint(provider), model="gpt-4o", reader=reader, request=REQUEST)
                meter.response_started({"content-type": content_type})
                if number % 2:
                    meter.will_stream()
                for piece in pieces:
                    meter.feed(piece)
                meter.finish()
                meter.returned()
        assert pipeline.flush(timeout=60)
        assert len(expected) == number * len(content_types)
        assert_sane(metered, sum(expected))
    pipeline.close()


def calls_in(outcome: Outcome) -> int:
    """Return how many calls an outcome should be counted as; a retrieval is not a call itself."""
    if outcome.is_running_total and outcome.retrieved:
        return int(bool(outcome.response_id and outcome.call.tokens))
    if outcome.is_running_total and outcome.response_id:
        return 1
    if not outcome.retrieved:
        return 1 + (0 if outcome.pending else len(outcome.sub_calls))
    if outcome.pending:
        return 0
    return len(outcome.sub_calls) or int(outcome.call.usage_reported)


def assert_sane(metered: Metered, calls: int) -> None:
    """Assert that every call is counted, and that every scraped number is plausible."""
    assert len(metered.calls) == calls
    for call in metered.calls:
        assert all(isinstance(number, int) and number > 0 for number in call.tokens.values())
        assert all(0 <= usd < math.inf for usd in call.cost.values())
    scraped = [sample for family in metered.pipeline.registry.collect() for sample in family.samples]
    assert all(0 <= sample.value < math.inf for sample in scraped)
    assert sum(sample.value for sample in scraped if sample.name == "llm_calls_total") == calls
    assert all(sample.value == 0 for sample in scraped if sample.name == "llm_calls_in_flight")
    # A reader may reject its input, but nothing after it may fail on the reading.
    errors = {sample.labels["where"] for sample in scraped if sample.name == "llm_exporter_errors_total"}
    assert errors <= {"wire"}


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


# ---- fuzzing


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


@samples
def test_truncated_response_is_counted_once(sample: Sample) -> None:
    """The connection may break after any byte."""
    responses = ([sample.data[:end]] if end else [] for end in range(len(sample.data) + 1))

    check(sample.reader, responses, sample.content_type)


@samples
def test_response_with_a_wrong_content_type_is_counted_once(sample: Sample) -> None:
    check(sample.reader, [[sample.data]], *CONTENT_TYPES)


# ---- headers


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"content-type": "\x00\xff\ud800"}, id="an invalid content type"),
        pytest.param({"content-type": JSON, "X-RATELIMIT-LIMIT-TOKENS": "9" * 400}, id="400 digits"),
        pytest.param({"content-type": JSON, "x-ratelimit-limit-tokens": "-5"}, id="negative"),
        pytest.param({"content-type": JSON, "x-ratelimit-remaining-tokens": "NaN"}, id="NaN"),
        pytest.param({"content-type": JSON, "x-ratelimit-remaining-tokens": "Infinity"}, id="infinite"),
        pytest.param(
            {"content-type": JSON, "x-ratelimit-remaining-tokens": "1_0"}, id="Python's digit separator"
        ),
        pytest.param(
            {"content-type": JSON, "x-ratelimit-remaining-to\nkens": "5"}, id="a line end in a name"
        ),
        pytest.param({"content-type": JSON, 'x-ratelimit-limit-a"b': "5"}, id="a quote in a name"),
    ],
)
def test_hostile_headers_set_no_rate_limit(headers: dict[str, str], metered: Metered) -> None:
    """The response is read anyway."""
    meter = Meter(endpoint=Endpoint("openai"), model="gpt-4o", reader=ChatReader)
    meter.response_started(headers)
    meter.feed(b'{"usage": {"prompt_tokens": 31}}')
    meter.finish()

    assert metered.call.usage_reported == (headers.get("content-type", JSON) == JSON)
    assert metered.samples("llm_rate_limit_limit") == metered.samples("llm_rate_limit_remaining") == {}


# ---- 50 MB of junk

CHUNK = 64 * 1024
CHUNKS = 800
MEGABYTE = 1024 * 1024


def _chunk(unit: bytes) -> bytes:
    """Return about 64 KiB of whole units."""
    return unit * (CHUNK // len(unit))


JUNK: dict[str, tuple[str, bytes, bytes]] = {
    "events": (SSE, b"", _chunk(b'data: {"usage":"%b","error":0}\n\n' % (1000 * b"x"))),
    "frames": (AWS, b"", _chunk(frame(b'{"bytes":"%b"}' % base64.b64encode(b'{"a":"%b"}' % (1000 * b"x"))))),
    "lines": (BYTES, b"{}\n", _chunk(b'{"response":{"body":"%b"},"result":{}}\n' % (1000 * b"x"))),
    "sound": ("audio/mpeg", b"", CHUNK * b"\xff"),
}
"""Streams of many complete events: content type, first bytes, and a repeated chunk of about 64 KiB."""

ENDLESS: dict[str, tuple[str, bytes, bytes]] = {
    "event": (SSE, b'data: {"usage":"', CHUNK * b"x"),
    "no line end": (SSE, b"x", CHUNK * b"x"),
    "short lines": (SSE, b"data: {", _chunk(b"\nx")),
    "blank data": (SSE, b"data: {", _chunk(b"\ndata: ")),
    "body": (JSON, b'{"usage":"', CHUNK * b"x"),
    "nested body": (JSON, b"", CHUNK * b"["),
    "line": (BYTES, b'{"id":"', CHUNK * b"x"),
    "frame": (AWS, (MEGABYTE).to_bytes(4) + bytes(8), CHUNK * b"x"),
}
"""Streams of one event that never ends: content type, first bytes, and a repeated chunk."""


def peak_of(reader: type[Reader], content_type: str, pieces: Iterable[bytes]) -> int:
    """Return the peak memory in bytes that metering a response allocates."""
    check(reader, [[b"{}"]], content_type)  # allocate what is created only once
    tracemalloc.start()
    try:
        check(reader, [pieces], content_type)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def junk(start: bytes, chunk: bytes) -> Iterator[bytes]:
    yield start
    for _ in range(CHUNKS):
        yield bytes(memoryview(chunk))  # a new copy, like every chunk from a network


@readers
@pytest.mark.parametrize("kind", JUNK)
def test_long_response_is_not_buffered(reader: type[Reader], kind: str) -> None:
    """Of 50 MB, at most a few chunks are buffered."""
    content_type, start, chunk = JUNK[kind]

    assert peak_of(reader, content_type, junk(start, chunk)) < 2 * MEGABYTE


@readers
@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_event_is_buffered_up_to_the_limit(
    reader: type[Reader], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event of 50 MB is dropped once it exceeds the limit."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 2 * MEGABYTE)
    content_type, start, chunk = ENDLESS[kind]

    assert peak_of(reader, content_type, junk(start, chunk)) < 8 * MEGABYTE
