"""From pieces of a response to bodies and events, however the network cuts it."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise

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
from llm_exporter.wire.openai import ChatReader, ResponsesReader
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


def read(reader: type[Reader], pieces: Iterable[bytes], content_type: str = SSE) -> Reading:
    """Return what a reader makes of a response in pieces."""
    reads = reader()
    frames: Framing | None = None
    for piece in pieces:
        frames = frames or framing_for(content_type, piece, reads)
        frames.feed(piece)
    if frames is not None:
        frames.end()
    return reads.reading


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Yield the data in pieces, cut at these places."""
    for begin, end in pairwise([0, *sorted(places), len(data)]):
        if begin < end:
            yield data[begin:end]


def tokens_in(reading: Reading) -> Counter[str]:
    """Return all tokens of an answer, those of the calls in it included."""
    tokens: Counter[str] = Counter()
    for each in (reading, *reading.sub_calls):
        tokens.update(each.tokens or {})
    return tokens


# ---- every wire format


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_has_a_sample(reader: type[Reader]) -> None:
    """What is tested of every format below is tested of a new one too."""
    assert reader in {sample.reader for sample in SAMPLES}


@samples
def test_whole_answer_is_read(sample: Sample) -> None:
    """All of it in one piece, as a small one may come."""
    assert read(sample.reader, [sample.data], sample.content_type) == sample.reading


@samples
def test_answer_byte_by_byte_is_read(sample: Sample) -> None:
    """No piece is too small."""
    pieces = cut(sample.data, range(len(sample.data)))

    assert read(sample.reader, pieces, sample.content_type) == sample.reading


@samples
def test_answer_cut_in_two_anywhere_is_read(sample: Sample) -> None:
    """Also inside a character, inside `data:`, and between the bytes of a line end."""
    for place in range(1, len(sample.data)):
        assert read(sample.reader, cut(sample.data, [place]), sample.content_type) == sample.reading, place


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from(SAMPLES))
def test_reading_never_depends_on_the_chunking(data: st.DataObject, sample: Sample) -> None:
    """Any number of cuts, anywhere."""
    places = data.draw(st.lists(st.integers(1, len(sample.data) - 1), max_size=40, unique=True))

    assert read(sample.reader, cut(sample.data, places), sample.content_type) == sample.reading


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from([each for each in STREAMS if each.content_type != AWS]))
def test_event_whose_end_never_came_is_read(data: st.DataObject, sample: Sample) -> None:
    """A server may end the response right behind the last event."""
    stream = sample.data.rstrip()
    places = data.draw(st.lists(st.integers(1, len(stream) - 1), max_size=10, unique=True))

    assert read(sample.reader, cut(stream, places), sample.content_type) == sample.reading


@settings(deadline=None)
@given(data=st.data(), sample=st.sampled_from(SAMPLES))
def test_answer_broken_off_anywhere_is_only_ever_bad_json(data: st.DataObject, sample: Sample) -> None:
    """Where the last event is half there, decoding it fails and nothing else does; no count is made up."""
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    frames.feed(sample.data[: data.draw(st.integers(1, len(sample.data)))])
    with suppress(msgspec.DecodeError):
        frames.end()

    assert tokens_in(reads.reading) <= tokens_in(sample.reading)


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(STREAMS))
def test_junk_is_only_ever_refused(junk: bytes, sample: Sample) -> None:
    """Whoever feeds catches; what is fed before it is not lost."""
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    frames.feed(sample.data)
    with suppress(ValueError):  # msgspec's DecodeError is one
        frames.feed(junk)
        frames.end()

    assert reads.reading == sample.reading


# ---- server-sent events


class Recorder(Reader):
    """Keeps what it is given; it sees a token in every event."""

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
        pytest.param(b'database: {"a":1}\n\n', [], id="another field that begins so"),
        pytest.param(b"event: ping\n\n", [], id="no data"),
        pytest.param(b"\n\n\n\n", [], id="blank lines only"),
        pytest.param(b'\n\n\ndata: {"a":1}\n\n\n\n', [b'{"a":1}'], id="blank lines in excess"),
        pytest.param('data: {"a":"\x0b\x0c\x1c\x85\u2028"}\n\n'.encode(), None, id="no line ends of SSE's"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_server_sent_events_by_the_standard(stream: bytes, events: list[bytes] | None) -> None:
    """Whole and byte by byte."""
    if events is None:
        events = [stream[len(b"data: ") : -2]]
    for pieces in ([stream], list(cut(stream, range(len(stream))))):
        recorder = Recorder()
        frames = ServerSentEvents(recorder)
        for piece in pieces:
            frames.feed(piece)
        frames.end()

        assert recorder.events == events


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 100], ids="pieces of {} bytes".format)
def test_event_is_read_as_soon_as_it_is_complete(newline: bytes, size: int) -> None:
    """The reader hears of an event with its blank line, not with the next event."""
    stream = b'data: {"a":1}' + 2 * newline + b'data: {"b":2}' + 2 * newline + b'data: {"c"'
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    fed = b""
    for piece in cut(stream, range(0, len(stream), size)):
        frames.feed(piece)
        fed += piece

        assert recorder.events == [b'{"a":1}', b'{"b":2}'][: fed.count(2 * newline)]


@pytest.mark.parametrize(
    ("reader", "events", "parsed"),
    [
        # Parsed are those up to the first token, and behind it those that tell of usage.
        pytest.param(ChatReader, chat_events(), [0, 1, 6], id="chat"),
        pytest.param(ResponsesReader, responses_events(), [0, 1, 6], id="responses"),
        pytest.param(MessagesReader, messages_events(), [0, 1, 2, 7], id="messages"),
        pytest.param(GenerateContentReader, gemini_events(), [0, 1, 2, 3, 4], id="gemini, all of which tell"),
    ],
)
@pytest.mark.parametrize("whole", [False, True], ids=["event by event", "in one piece"])
def test_event_is_parsed_only_for_the_first_token_or_for_what_it_tells(
    reader: type[Reader],
    events: list[Json],
    parsed: list[int],
    whole: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bulk of a long stream is passed over."""
    reads = reader()
    given: list[bytes] = []
    original: Callable[[bytes], None] = reads.read_event

    def event(data: bytes) -> None:
        given.append(data)
        original(data)

    monkeypatch.setattr(reads, "read_event", event)
    frames = ServerSentEvents(reads)
    pieces = [sse([event]) for event in events]
    for piece in [b"".join(pieces)] if whole else pieces:
        frames.feed(piece)
    frames.end()

    assert [json.loads(data) for data in given] == [events[index] for index in parsed]


# ---- memory


def held(frames: Framing) -> int:
    """Return how many bytes a framing keeps."""
    if isinstance(frames, EventStream):
        return len(frames._buffer)
    assert isinstance(frames, Body | JsonLines | ServerSentEvents)
    pending = frames._pending if isinstance(frames, ServerSentEvents) else []
    return sum(map(len, [*frames._buffer._chunks, *pending]))


@streams
def test_stream_holds_nothing_after_a_complete_event(sample: Sample, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than one event is kept of what was looked at, however long the stream."""
    monkeypatch.setattr(framing, "_CHUNKS_AT_ONCE", 1)
    reads = sample.reader()
    frames = framing_for(sample.content_type, sample.data, reads)
    for _ in range(50):
        frames.feed(sample.data[:100])
        assert held(frames) <= 100
        frames.feed(sample.data[100:])
        assert held(frames) == 0
    assert reads.reading.tokens == sample.reading.tokens


def test_no_more_than_a_few_small_chunks_wait_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first token, of which nothing waits, three at a time of those that have up to 250 bytes."""
    monkeypatch.setattr(framing, "_CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(framing, "_SMALL_CHUNK", 250)
    small = sse([chat_events()[1]])
    large = small.replace(b"\n", b" " * 300 + b"\n", 1)
    frames = ServerSentEvents(ChatReader())
    waiting = []
    for chunk in (small, small, small, small, small, small, large, small, large):
        frames.feed(chunk)
        waiting.append(held(frames) // len(small))
    assert waiting == [0, 1, 2, 0, 1, 2, 0, 1, 0]


@pytest.mark.parametrize("size", [1, 7, 40], ids="pieces of {} bytes".format)
def test_event_too_large_is_let_go_and_the_next_one_read(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes MAX_BUFFERED is not kept, not read, and does no harm to what follows."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    big = b'data: {"a":"' + 200 * b"x" + b'"}\n\n'
    for piece in cut(big, range(0, len(big), size)):
        frames.feed(piece)
        assert held(frames) <= 64
    frames.feed(b'data: {"b":2}\n\n')
    frames.end()

    assert recorder.events == [b'{"b":2}']


def test_event_too_large_at_the_end_of_a_stream_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to read of it."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = ServerSentEvents(recorder)
    frames.feed(b'data: {"a":"' + 40 * b"x")
    frames.feed(40 * b"x" + b'"}')
    frames.end()

    assert recorder.events == []


def test_body_is_held_until_it_ends_and_then_read() -> None:
    """JSON cannot be read before its last byte."""
    recorder = Recorder()
    frames = Body(recorder)
    frames.feed(b'{"a"')
    frames.feed(b":1}")
    assert recorder.bodies == []
    frames.end()

    assert recorder.bodies == [b'{"a":1}']
    assert held(frames) == 0


@pytest.mark.parametrize("pieces", [[65 * b"x"], [60 * b"x", b"y", 60 * b"z"], 65 * [b"x"]], ids=len)
def test_body_too_large_is_let_go(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """What passes MAX_BUFFERED is neither kept nor read."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = Body(recorder)
    for piece in pieces:
        frames.feed(piece)
    assert held(frames) == 0
    frames.end()

    assert recorder.bodies == []


def test_body_of_just_the_largest_size_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_BUFFERED itself is not too much."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 64)
    recorder = Recorder()
    frames = Body(recorder)
    frames.feed(32 * b"x")
    frames.feed(32 * b"y")
    frames.end()

    assert recorder.bodies == [32 * b"x" + 32 * b"y"]


def test_empty_body_is_not_read() -> None:
    """There is nothing in it to decode."""
    recorder = Recorder()
    frames = Body(recorder)
    frames.end()

    assert recorder.bodies == []


# ---- Bedrock's binary event stream


def test_bedrock_stream_is_read() -> None:
    """As the plain API's; the last event's own metrics are the same tokens again, and no model is named."""
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


def test_frame_without_an_event_is_passed_over() -> None:
    """Bedrock may send frames of other kinds in between."""
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
def test_frame_that_breaks_a_stream_off_is_an_error(named: dict[bytes, bytes], payload: bytes) -> None:
    """Its name is among the headers; what was counted by then stays counted."""
    stream = eventstream(messages_events()[:3]) + frame(payload, named)
    for pieces in ([stream], list(cut(stream, range(len(stream))))):
        reading = read(MessagesReader, pieces, AWS)
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
def test_what_is_no_frame_is_refused(prelude: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rather than waiting for gigabytes that a damaged length promises."""
    monkeypatch.setattr(framing, "MAX_BUFFERED", 1000)
    with pytest.raises(ValueError, match="invalid event stream frame"):
        EventStream(Recorder()).feed(prelude)


# ---- which framing


@pytest.mark.parametrize(
    ("content_type", "first", "expected"),
    [
        pytest.param("application/json", b'{"a": 1}', Body, id="JSON"),
        pytest.param("Application/JSON; charset=UTF-8", b'\n  {"a": 1}', Body, id="JSON with a charset"),
        pytest.param("application/problem+json", b"{", Body, id="JSON of another kind"),
        pytest.param("application/json", b"", Body, id="JSON, still empty"),
        pytest.param("application/json", b"[{", Body, id="a JSON array"),
        pytest.param("application/json", b"\xef\xbb\xbf{", Body, id="JSON behind a byte order mark"),
        pytest.param("application/json", b"\xef", Body, id="half a byte order mark"),
        pytest.param("text/event-stream", b"\xef", ServerSentEvents, id="half of one before SSE"),
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
def test_framing_is_chosen_by_type_and_first_bytes(
    content_type: str, first: bytes, expected: type[Framing]
) -> None:
    """The header tells binary from text, the bytes tell JSON from SSE."""
    assert type(framing_for(content_type, first, Recorder())) is expected


def test_sse_sent_as_json_is_read() -> None:
    """Some gateways do not set the type of a stream."""
    stream = sse(chat_events(), done=True)

    expected = Reading("gpt-t", {"input": 31, "output": 7}, token_seen=True)
    assert read(ChatReader, [stream], "application/json") == expected


def test_json_sent_as_sse_is_read() -> None:
    """A service that cannot stream may answer in one piece under the type that was asked for."""
    body = json.dumps(chat_events()[-1], indent=2).encode()

    expected = Reading("gpt-t", {"input": 31, "output": 7})
    assert read(ChatReader, cut(body, [20, 21, 50])) == expected


def test_a_stream_that_is_one_array_is_read_when_it_ends() -> None:
    """As Gemini's unless asked for server-sent events: the last chunk holds, never the sum."""
    stream = b"[" + b"\n,\r\n".join(json.dumps(each).encode() for each in gemini_events()) + b"\n]\n"
    for pieces in ([stream], list(cut(stream, [1, 2, 50, 400]))):
        reading = read(GenerateContentReader, pieces, "application/json")
        assert reading == Reading("gemini-t", {"input": 31, "output": 7}, token_seen=True)


def test_json_behind_a_byte_order_mark_is_read() -> None:
    """The SDKs take it too."""
    body = b"\xef\xbb\xbf" + json.dumps(chat_events()[-1]).encode()
    for pieces in ([body], list(cut(body, [1, 2, 3, 50]))):
        expected = Reading("gpt-t", {"input": 31, "output": 7})
        assert read(ChatReader, pieces, "application/json") == expected


def test_binary_body_is_let_go() -> None:
    """Audio has no usage in it, and is not kept."""
    recorder = Recorder()
    frames = framing_for("audio/mpeg", b"{", recorder)
    frames.feed(b'{"usage": {}}')
    frames.end()

    assert (recorder.bodies, recorder.events) == ([], [])
