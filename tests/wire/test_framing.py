"""Framings: a response yields the same bodies and events however the network splits it."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.call import TokenType
from llm_exporter.wire import framing
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.framing import (
    Body,
    EventStream,
    Framing,
    Ignored,
    JsonLines,
    ServerSentEvents,
    framing_for,
)
from llm_exporter.wire.gemini import GenerateContentReader
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.openai_responses import ResponsesReader
from llm_exporter.wire.reader import Reader, Reading
from support.samples import (
    AWS,
    READERS,
    SAMPLES,
    SSE,
    Json,
    Sample,
    chat_events,
    eventstream,
    frame,
    gemini_events,
    messages_events,
    responses_events,
    sse,
)

STREAMS = [sample for sample in SAMPLES if sample.streamed]
samples = pytest.mark.parametrize("sample", SAMPLES, ids=str)
streams = pytest.mark.parametrize("sample", STREAMS, ids=str)


def read(reader: type[Reader], chunks: Iterable[bytes], content_type: str = SSE) -> Reading:
    """Return the reading of a response that arrives in chunks."""
    reads = reader()
    frames: Framing | None = None
    for chunk in chunks:
        frames = frames or framing_for(content_type, chunk, reads)
        frames.feed(chunk)
    if frames is not None:
        frames.end()
    return reads.reading


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Yield the data in chunks, split at these offsets."""
    for begin, end in pairwise([0, *sorted(places), len(data)]):
        if begin < end:
            yield data[begin:end]


def tokens_in(reading: Reading) -> Counter[str]:
    """Return all tokens of a reading, including those of its sub-calls."""
    tokens: Counter[str] = Counter()
    for each in (reading, *reading.sub_calls):
        tokens.update(each.tokens or {})
    return tokens


# ---- every wire format


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_has_a_sample(reader: type[Reader]) -> None:
    """A new reader must have a sample, so that the tests below cover it."""
    assert reader in {sample.reader for sample in SAMPLES}


@samples
def test_response_in_one_chunk_is_read(sample: Sample) -> None:
    assert read(sample.reader, [sample.data], sample.content_type) == sample.reading


@samples
def test_response_in_single_bytes_is_read(sample: Sample) -> None:
    chunks = cut(sample.data, range(len(sample.data)))

    assert read(sample.reader, chunks, sample.content_type) == sample.reading


@samples
def test_response_split_in_two_anywhere_is_read(sample: Sample) -> None:
    """The split may fall inside a character, inside `data:`, or between CR and LF."""
    for place in range(1, len(sample.data)):
        assert read(sample.reader, cut(sample.data, [place]), sample.content_type) == sample.reading, place


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from(SAMPLES))
def test_reading_does_not_depend_on_the_chunks(data: st.DataObject, sample: Sample) -> None:
    """The response is split any number of times, anywhere."""
    places = data.draw(st.lists(st.integers(1, len(sample.data) - 1), max_size=40, unique=True))

    assert read(sample.reader, cut(sample.data, places), sample.content_type) == sample.reading


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from([each for each in STREAMS if each.content_type != AWS]))
def test_last_event_without_a_blank_line_is_read(data: st.DataObject, sample: Sample) -> None:
    """A server may end the response right after the last event."""
    stream = sample.data.rstrip()
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=10, unique=True))

    assert read(sample.reader, cut(stream, places), sample.content_type) == sample.reading


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from(SAMPLES))
def test_truncated_response_raises_nothing_but_a_decode_error(data: st.DataObject, sample: Sample) -> None:
    """Only decoding the incomplete event may fail, and no tokens are invented."""
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    frames.feed(sample.data[: data.draw(st.integers(1, len(sample.data)))])
    with suppress(msgspec.DecodeError):
        frames.end()

    assert tokens_in(reads.reading) <= tokens_in(sample.reading)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(STREAMS))
def test_junk_after_a_response_leaves_the_reading_intact(junk: bytes, sample: Sample) -> None:
    """The framing may raise ValueError, which the meter catches."""
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    frames.feed(sample.data)
    with suppress(ValueError):  # msgspec's DecodeError is one
        frames.feed(junk)
        frames.end()

    assert reads.reading == sample.reading


# ---- server-sent events


class Recorder(Reader):
    """A reader that keeps the bodies and events it is given."""

    operation = "chat"

    def __init__(self) -> None:
        super().__init__()
        self.bodies: list[bytes] = []
        self.events: list[bytes] = []

    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usage"' in data

    def read_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def read_event(self, data: bytes) -> None:
        self.events.append(data)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        pytest.param(b'data: {"a":1}\n\n', [b'{"a":1}'], id="a space after the colon"),
        pytest.param(b'data:{"a":1}\n\n', [b'{"a":1}'], id="no space after the colon"),
        pytest.param(
            b'data: {"a":1}\r\n\r\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}'], id="both line ends"
        ),
        pytest.param(b'data:  {"a":1}\n\n', [b' {"a":1}'], id="two spaces after the colon"),
        pytest.param(b'data: \t{"a":1}\n\n', [b'\t{"a":1}'], id="a tab after the colon"),
        pytest.param(b'data: {"a":1}\r\rdata: {"b":2}\r\r', [b'{"a":1}', b'{"b":2}'], id="CR alone"),
        pytest.param(b'data: {"a":\rdata: 1}\r\r', [b'{"a":\n1}'], id="data of several lines, CR"),
        pytest.param(b'\xef\xbb\xbfdata: {"a":1}\n\n', [b'{"a":1}'], id="a byte order mark"),
        pytest.param(b'data: {"a":\ndata: 1}\n\n', [b'{"a":\n1}'], id="data of several lines"),
        pytest.param(b'data: {"a":\r\ndata: 1}\r\n\r\n', [b'{"a":\n1}'], id="data of several lines, CRLF"),
        pytest.param(b'id: 7\nevent: x\nretry: 9\ndata: {"a":1}\n\n', [b'{"a":1}'], id="other fields"),
        pytest.param(b': hello\n\n:\n\ndata: {"a":1}\n\n: bye\n\n', [b'{"a":1}'], id="comments"),
        pytest.param(b'data: {"a":1}\n: within\n\n', [b'{"a":1}'], id="a comment inside an event"),
        pytest.param(b"data: [DONE]\n\n", [], id="[DONE]"),
        pytest.param(b'data: {"a":1}\n\ndata: [DONE]', [b'{"a":1}'], id="[DONE] without its end"),
        pytest.param(b"data:\n\ndata: \n\n", [], id="empty data"),
        pytest.param(b'database: {"a":1}\n\n', [], id="another field with the same prefix"),
        pytest.param(b"event: ping\n\n", [], id="no data"),
        pytest.param(b"\n\n\n\n", [], id="blank lines only"),
        pytest.param(b'\n\n\ndata: {"a":1}\n\n\n\n', [b'{"a":1}'], id="extra blank lines"),
        pytest.param(
            'data: {"a":"\x0b\x0c\x1c\x85\u2028"}\n\n'.encode(),
            None,
            id="characters that are not line ends in SSE",
        ),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_server_sent_events_follow_the_standard(stream: bytes, events: list[bytes] | None) -> None:
    """The stream arrives in one chunk and in single bytes."""
    if events is None:
        events = [stream[len(b"data: ") : -2]]
    for chunks in ([stream], list(cut(stream, range(len(stream))))):
        recorder = Recorder()
        frames = ServerSentEvents(recorder)
        for chunk in chunks:
            frames.feed(chunk)
        frames.end()

        assert recorder.events == events


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100], ids="chunks of {} bytes".format)
def test_event_is_read_as_soon_as_it_is_complete(newline: bytes, size: int) -> None:
    """The reader receives an event at its blank line, not at the next event."""
    stream = b'data: {"a":1}' + 2 * newline + b'data: {"b":2}' + 2 * newline + b'data: {"c"'
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    fed = b""
    for chunk in cut(stream, range(0, len(stream), size)):
        frames.feed(chunk)
        fed += chunk

        assert recorder.events == [b'{"a":1}', b'{"b":2}'][: fed.count(2 * newline)]


@pytest.mark.parametrize(
    ("reader", "events", "parsed"),
    [
        # Parsed are the events up to the first token, and later ones with usage.
        pytest.param(ChatReader, chat_events(), [0, 1, 6], id="chat"),
        pytest.param(ResponsesReader, responses_events(), [0, 1, 6], id="responses"),
        pytest.param(MessagesReader, messages_events(), [0, 1, 2, 7], id="messages"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["event by event", "in one chunk"])
def test_event_is_parsed_only_for_the_first_token_or_usage(
    reader: type[Reader],
    events: list[Json],
    parsed: list[int],
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most events of a long stream are skipped."""
    reads = reader()
    given = events_given_to(reads, monkeypatch)
    chunks = [sse([event]) for event in events]
    frames = ServerSentEvents(reads)
    for chunk in [b"".join(chunks)] if whole else chunks:
        frames.feed(chunk)
    frames.end()

    assert given == [events[index] for index in parsed]


def events_given_to(reads: Reader, monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """Return the list of the events that a reader is given from now on."""
    given: list[Json] = []
    original: Callable[[bytes], None] = reads.read_event

    def event(data: bytes) -> None:
        given.append(json.loads(data))
        original(data)

    monkeypatch.setattr(reads, "read_event", event)
    return given


def gemini_chunk(number: int, **more: Any) -> Json:
    """Return a chunk with text and the usage so far."""
    parts = {
        "candidates": [{"content": {"parts": [{"text": f"{number} " * 20}]}}],
        "modelVersion": "gemini-t",
    }
    return {**parts, **more, "usageMetadata": {"promptTokenCount": 31, "candidatesTokenCount": number}}


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("pieces", ["one by one", "groups of 50", "all at once"])
def test_usage_that_each_event_repeats_is_parsed_once_for_many_events(
    pieces: str, newline: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last event of those that are scanned together is parsed."""
    events = [gemini_chunk(number) for number in range(200)]
    chunks = [sse([event]).replace(b"\n", newline) for event in events]
    size = {"one by one": 1, "groups of 50": 50, "all at once": 200}[pieces]
    reads = GenerateContentReader()
    given = events_given_to(reads, monkeypatch)
    frames = ServerSentEvents(reads)
    for start in range(0, 200, size):
        frames.feed(b"".join(chunks[start : start + size]))
    frames.end()

    assert reads.reading.tokens == {"input": 31, "output": 199}
    assert given[0] == events[0]
    assert given[-1] == events[199]
    # Of the first, and of each of 13 groups of 16, or of each half.
    assert len(given) <= 14


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(
            [{"functionCall": {"args": {"usageMetadata": {"promptTokenCount": 9}}}}], id="arguments"
        ),
        pytest.param([{"text": "ended"}], id="no usage"),
    ],
)
def test_only_usage_supersedes_earlier_usage(last: Json) -> None:
    """Other keys may look like it. An event with a search or an error supersedes nothing either."""
    parts = [{"content": {"parts": last}}]
    for after in ({"candidates": parts}, {"candidates": parts, "usageMetadata": {"trafficType": "X"}}):
        reading = read(GenerateContentReader, [*map(chunk_of, (1, 2, 3)), sse([after])])
        assert reading.tokens == {"input": 31, "output": 3}


def chunk_of(number: int) -> bytes:
    return sse([gemini_chunk(number)])


def test_a_search_or_an_error_is_read_wherever_it_is() -> None:
    searched = {"candidates": [{"groundingMetadata": {"webSearchQueries": ["a"]}}]}
    failed = {"error": {"code": 503, "status": "UNAVAILABLE"}}
    for special in (searched, failed):
        for place in range(1, 5):
            chunks = [*map(chunk_of, (1, 2, 3, 4))]
            chunks.insert(place, sse([special]))
            reading = read(GenerateContentReader, chunks)
            assert reading.tokens == {"input": 31, "output": 4}
            assert (reading.error, reading.units) == (
                ("UNAVAILABLE", {}) if special is failed else (None, {"web_searches": 1})
            )


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("position", [1, 57, 198, 199])
def test_usage_is_found_anywhere_in_a_piece_of_many_events(position: int, newline: bytes) -> None:
    """Only the events beside it are taken apart, and no text or comment is taken for it."""
    text = b'data: {"choices": [{"delta": {"content": "a \\"usage\\": {}"}}], "usage": null}'
    events = [newline.join([b": ping", text, b"", b""])] * 200
    events[position] = newline.join(
        [b'data: {"choices": [],', b'data: "usage": {"prompt_tokens": 7, "completion_tokens": 3}}', b"", b""]
    )
    reads = ChatReader()
    given: list[bytes] = []
    taken_apart: list[bytes] = []
    frames = ServerSentEvents(reads)
    read_event, take_apart = reads.read_event, frames._take_apart

    def read(data: bytes) -> None:
        given.append(data)
        read_event(data)

    def take(part: bytes) -> None:
        taken_apart.append(part)
        take_apart(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "read_event", read)
        patch.setattr(frames, "_take_apart", take)
        frames.feed(b"".join(events))
        frames.end()

    assert reads.reading.tokens == {"input": 7, "output": 3}
    assert len(given) == 2
    assert sum(map(len, taken_apart)) < 2500


# ---- memory


def buffered(frames: Framing) -> int:
    """Return the number of bytes that a framing buffers."""
    if isinstance(frames, EventStream):
        return len(frames._buffer)
    assert isinstance(frames, Body | JsonLines | ServerSentEvents)
    pending = frames._pending if isinstance(frames, ServerSentEvents) else []
    return sum(map(len, [*frames._buffer._chunks, *pending]))


@streams
def test_stream_buffers_nothing_after_a_complete_event(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one event is buffered, however long the stream."""
    monkeypatch.setattr(framing, "_CHUNKS_AT_ONCE", 1)
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    for _ in range(50):
        frames.feed(sample.data[:100])
        assert buffered(frames) <= 100
        frames.feed(sample.data[100:])
        assert buffered(frames) == 0
    assert reads.reading.tokens == sample.reading.tokens


def test_only_a_few_small_chunks_wait_to_be_scanned(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first token, up to three chunks of at most 250 bytes are scanned together."""
    monkeypatch.setattr(framing, "_CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(framing, "_SMALL_CHUNK", 250)
    small = sse([chat_events()[1]])
    large = small.replace(b"\n", b" " * 300 + b"\n", 1)
    frames = ServerSentEvents(ChatReader())
    waiting = []
    for chunk in (small, small, small, small, small, small, large, small, large):
        frames.feed(chunk)
        waiting.append(buffered(frames) // len(small))
    assert waiting == [0, 1, 2, 0, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("size", [1, 7, 40], ids="chunks of {} bytes".format)
def test_oversized_event_is_dropped_and_the_next_one_read(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event larger than MAX_BUFFERED is neither buffered nor read."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    big = b'data: {"a":"' + 200 * b"x" + b'"}\n\n'
    for chunk in cut(big, range(0, len(big), size)):
        frames.feed(chunk)
        assert buffered(frames) <= 64
    frames.feed(b'data: {"b":2}\n\n')
    frames.end()

    assert recorder.events == [b'{"b":2}']


def test_oversized_event_at_the_end_of_a_stream_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    frames.feed(b'data: {"a":"' + 40 * b"x")
    frames.feed(40 * b"x" + b'"}')
    frames.end()

    assert recorder.events == []


def test_body_is_buffered_until_it_ends_and_then_read() -> None:
    """JSON cannot be decoded before its last byte."""
    recorder = Recorder()
    frames = Body(recorder)
    frames.feed(b'{"a"')
    frames.feed(b":1}")
    assert recorder.bodies == []
    frames.end()

    assert recorder.bodies == [b'{"a":1}']
    assert buffered(frames) == 0


@pytest.mark.parametrize("chunks", [[65 * b"x"], [60 * b"x", b"y", 60 * b"z"], 65 * [b"x"]], ids=len)
def test_oversized_body_is_dropped(chunks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A body larger than MAX_BUFFERED is neither buffered nor read."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = Body(recorder)
    for chunk in chunks:
        frames.feed(chunk)
    assert buffered(frames) == 0
    frames.end()

    assert recorder.bodies == []


def test_body_of_the_largest_size_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of exactly MAX_BUFFERED bytes is not too large."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = Body(recorder)
    frames.feed(32 * b"x")
    frames.feed(32 * b"y")
    frames.end()

    assert recorder.bodies == [32 * b"x" + 32 * b"y"]


def test_empty_body_is_not_read() -> None:
    """An empty body cannot be decoded."""
    recorder = Recorder()
    frames = Body(recorder)
    frames.end()

    assert recorder.bodies == []


# ---- Bedrock's binary event stream


def test_bedrock_stream_is_read() -> None:
    """Bedrock names no model, and repeats the tokens in its own metrics, which are ignored."""
    events = messages_events()
    del events[0]["message"]["model"]
    events[-1]["amazon-bedrock-invocationMetrics"] = {
        "inputTokenCount": 31,
        "outputTokenCount": 7,
        "invocationLatency": 900,
        "firstByteLatency": 300,
    }

    assert read(MessagesReader, [eventstream(events)], AWS) == Reading(
        tokens={"input": 31, "output": 7}, token_seen=True
    )


def test_frame_without_an_event_is_skipped() -> None:
    """Bedrock may send other kinds of frames in between."""
    recorder = Recorder()
    frames = EventStream(recorder)
    frames.feed(frame(b'{"message": "something else"}') + eventstream([{"a": 1}]))

    assert recorder.events == [b'{"a": 1}']


@pytest.mark.parametrize(
    ("named", "payload"),
    [
        pytest.param(
            {b":exception-type": b"throttlingException", b":message-type": b"exception"},
            b'{"message": "Too many tokens"}',
            id="an exception",
        ),
        pytest.param(
            {
                b":message-type": b"error",
                b":error-code": b"throttlingException",
                b":error-message": b"Too many tokens",
            },
            b"",
            id="an error without a payload",
        ),
    ],
)
def test_exception_frame_is_an_error(named: dict[bytes, bytes], payload: bytes) -> None:
    """The headers name the error. Earlier counts are kept."""
    stream = eventstream(messages_events()[:3]) + frame(payload, named)
    for chunks in ([stream], list(cut(stream, range(len(stream))))):
        reading = read(MessagesReader, chunks, AWS)
        counted: dict[TokenType, int] = {"input": 31, "output": 2}
        assert reading == Reading("claude-t", counted, error="throttlingException", token_seen=True)


@pytest.mark.parametrize(
    "prelude",
    [
        pytest.param(struct.pack(">III", 15, 0, 0), id="shorter than a frame can be"),
        pytest.param(struct.pack(">III", 40, 100, 0), id="headers longer than the frame"),
        pytest.param(struct.pack(">III", 1001, 0, 0), id="longer than MAX_BUFFERED"),
        pytest.param(b"data: {}\n\n\n\n", id="text"),
    ],
)
def test_invalid_frame_is_rejected(prelude: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged length must not make the framing wait for gigabytes."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 1000)
    with pytest.raises(ValueError, match="invalid event stream frame"):
        EventStream(Recorder()).feed(prelude)


# ---- choice of framing


@pytest.mark.parametrize(
    ("content_type", "first", "expected"),
    [
        pytest.param("application/json", b'{"a": 1}', Body, id="JSON"),
        pytest.param("Application/JSON; charset=UTF-8", b'\n  {"a": 1}', Body, id="JSON with a charset"),
        pytest.param("application/problem+json", b"{", Body, id="JSON of another kind"),
        pytest.param("application/json", b"", Body, id="JSON, still empty"),
        pytest.param("application/json", b"[{", Body, id="a JSON array"),
        pytest.param("application/json", b"\xef\xbb\xbf{", Body, id="JSON after a byte order mark"),
        pytest.param("application/json", b"\xef", Body, id="half a byte order mark"),
        pytest.param("text/event-stream", b"\xef", ServerSentEvents, id="half a byte order mark before SSE"),
        pytest.param("text/event-stream", b"data: {", ServerSentEvents, id="SSE"),
        pytest.param("text/event-stream;charset=utf-8", b": hi", ServerSentEvents, id="SSE with a charset"),
        pytest.param("text/event-stream", b"", ServerSentEvents, id="SSE, still empty"),
        pytest.param("text/event-stream", b"\n", ServerSentEvents, id="SSE that begins with a blank line"),
        pytest.param("application/json", b"data: {", ServerSentEvents, id="SSE sent as JSON"),
        pytest.param("application/json", b"event: x", ServerSentEvents, id="SSE with kinds sent as JSON"),
        pytest.param("text/plain", b"data: {", ServerSentEvents, id="SSE sent as text"),
        pytest.param("text/event-stream", b'{"error": 1}', Body, id="JSON sent as SSE"),
        pytest.param("text/plain", b'{"a": 1}', Body, id="JSON sent as text"),
        pytest.param("", b'{"a": 1}', Body, id="JSON without a type"),
        pytest.param("", b"data: {", ServerSentEvents, id="SSE without a type"),
        pytest.param(AWS, b"\x00\x00\x01\x00", EventStream, id="Bedrock"),
        pytest.param("audio/mpeg", b"\xff\xfb", Ignored, id="audio"),
        pytest.param("image/png", b"{", Ignored, id="image"),
        pytest.param("application/octet-stream", b"[", Ignored, id="bytes"),
        pytest.param("video/mp4", b"", Ignored, id="video"),
    ],
)
def test_framing_is_chosen_by_content_type_and_first_bytes(
    content_type: str, first: bytes, expected: type[Framing]
) -> None:
    """The header tells binary from text, and the first bytes tell JSON from SSE."""
    assert type(framing_for(content_type, first, Recorder())) is expected


def test_sse_sent_as_json_is_read() -> None:
    """Some gateways do not set the content type of a stream."""
    stream = sse(chat_events(), done=True)

    expected = Reading("gpt-t", {"input": 31, "output": 7}, token_seen=True)
    assert read(ChatReader, [stream], "application/json") == expected


def test_json_sent_as_sse_is_read() -> None:
    """A service that cannot stream may send JSON under the requested content type."""
    body = json.dumps(chat_events()[-1], indent=2).encode()

    expected = Reading("gpt-t", {"input": 31, "output": 7})
    assert read(ChatReader, cut(body, [20, 21, 50])) == expected


def test_stream_in_one_json_array_is_read_when_it_ends() -> None:
    """Gemini streams an array by default. The last counts are used, not their sum."""
    stream = b"[" + b"\n,\r\n".join(json.dumps(each).encode() for each in gemini_events()) + b"\n]\n"
    for chunks in ([stream], list(cut(stream, [1, 2, 50, 400]))):
        reading = read(GenerateContentReader, chunks, "application/json")
        assert reading == Reading("gemini-t", {"input": 31, "output": 7}, token_seen=True)


def test_json_after_a_byte_order_mark_is_read() -> None:
    """The SDKs accept it too."""
    body = b"\xef\xbb\xbf" + json.dumps(chat_events()[-1]).encode()
    for chunks in ([body], list(cut(body, [1, 2, 3, 50]))):
        expected = Reading("gpt-t", {"input": 31, "output": 7})
        assert read(ChatReader, chunks, "application/json") == expected


def test_binary_body_is_ignored() -> None:
    """Audio contains no usage and is not buffered."""
    recorder = Recorder()
    frames = framing_for("audio/mpeg", b"{", recorder)
    frames.feed(b'{"usage": {}}')
    frames.end()

    assert (recorder.bodies, recorder.events) == ([], [])
