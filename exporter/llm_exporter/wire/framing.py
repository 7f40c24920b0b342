"""From the chunks of a response, as the SDK reads them, to the bodies and events that a `Reader` reads.

Every framing is fed arbitrary pieces and holds no more than the one event that is not complete yet, and a
few small pieces that are still to be looked at.
"""

from __future__ import annotations

import base64
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any, Final

import msgspec

from .reader import Reader

_JSON_BEGINS: Final = (b"{", b"[")

_BOM: Final = b"\xef\xbb\xbf"

_DONE: Final = b"data: [DONE]\n\n"

_CHUNKS_AT_ONCE: Final = 16
"""Chunks of a stream that are looked at together; of so many, a look costs little more than of one."""
_SMALL_CHUNK: Final = 1024
"""Bytes of a chunk that may wait for others."""

MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Bytes held of one body or event at most; what is larger is let go unread."""


class Framing(ABC):
    """Takes a response's decoded bytes in order; `end` when there will be no more."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @abstractmethod
    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""

    def end(self) -> None:  # noqa: B027 - most framings have read all by then
        """Take note that the response has ended, complete or not."""

    def generated_length(self) -> int:
        """Return about how many bytes of generated text have come, in case no usage comes."""
        return 0


class Ignored(Framing):
    """A response that carries no usage, such as audio: nothing is kept."""

    def feed(self, chunk: bytes) -> None:
        """Let the piece go."""


class Body(Framing):
    """A whole JSON body, or a stream in one array, as Gemini's unless asked for server-sent events."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = Buffer()

    def feed(self, chunk: bytes) -> None:
        """Keep the piece (a reference: the SDK holds the same bytes)."""
        self._buffer.add(chunk)

    def end(self) -> None:
        """Read the body."""
        data = self._buffer.drain().removeprefix(_BOM).lstrip()
        if data.startswith(b"["):
            for event in msgspec.json.decode(data, type=list[msgspec.Raw]):
                self._reader.read_event(bytes(event))
        elif data:
            self._reader.read_body(data)


class JsonLines(Framing):
    """A JSON value on each line."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = Buffer()

    def feed(self, chunk: bytes) -> None:
        """Read the lines that this piece completes."""
        for line in BytesIO(chunk):  # one at a time: a list of very short lines is many times their size
            self._buffer.add(line)
            if line.endswith(b"\n"):
                self._read(self._buffer.drain())

    def end(self) -> None:
        """Read a last line that was not ended."""
        self._read(self._buffer.drain())

    def _read(self, line: bytes) -> None:
        if line.strip():
            with suppress(msgspec.DecodeError):  # one line that is no JSON says nothing of the others
                self._reader.read_event(line)


class ServerSentEvents(Framing):
    """`text/event-stream`, by https://html.spec.whatwg.org/multipage/server-sent-events.html.

    Most chunks of a stream say nothing about usage. So once the first token was seen, small chunks are looked
    at several at a time, and taken apart only when the reader finds them `may_carry_usage`.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reading = reader.reading
        self._pending: list[bytes] = []
        """The last chunks, which are still to be looked at."""
        self._buffer = Buffer()
        self._seam = b""
        """The last two bytes held: a blank line may be split between two pieces."""
        self._tokens_bytes = self._tokens_events = self._overhead = 0
        """The events with generated tokens, and what of each is not text, going by the first."""

    def feed(self, chunk: bytes) -> None:
        """Read the events that this piece completes, now or together with those of the next ones."""
        pending = self._pending
        pending.append(chunk)
        if not self._reading.token_seen or len(pending) == _CHUNKS_AT_ONCE or len(chunk) > _SMALL_CHUNK:
            self._look()

    def _look(self) -> None:
        chunk = b"".join(self._pending)
        self._pending.clear()
        end = last_blank_line(chunk)
        if end < 0 and self._seam:
            end = last_blank_line(self._seam + chunk[:2]) - len(self._seam)
        if end <= 0:
            self._hold(chunk)
            return
        complete = chunk[:end]
        if self._buffer:
            self._buffer.add(complete)
            complete = self._buffer.drain()
        self._seam = b""
        if end < len(chunk):
            self._hold(chunk[end:])
        self._read(complete)

    def _hold(self, piece: bytes) -> None:
        self._buffer.add(piece)
        self._seam = (self._seam + piece)[-2:]

    def end(self) -> None:
        """Read an event whose closing blank line never came."""
        self._look()
        self._read(self._buffer.drain())

    def generated_length(self) -> int:
        """See `Framing.generated_length`."""
        return max(self._tokens_bytes - self._tokens_events * self._overhead, 0)

    def _read(self, events: bytes) -> None:
        reader = self._reader
        if reader.reading.token_seen and not reader.may_carry_usage(events):
            said = events.removesuffix(_DONE)
            self._tokens_bytes += len(said)
            self._tokens_events += said.count(b"\n\n") or said.count(b"\n\r\n")
            return
        data: list[bytes] = []
        size = 0
        for line in _lines(events):
            size += len(line)
            if line.startswith(b"data:"):
                data.append(line[5:].rstrip(b"\r\n").removeprefix(b" "))
            elif not line.strip(b"\r\n"):
                if data:
                    self._dispatch(data, size)
                data, size = [], 0
        if data:
            self._dispatch(data, size)

    def _dispatch(self, lines: list[bytes], size: int) -> None:
        data = lines[0] if len(lines) == 1 else b"\n".join(lines)
        reader = self._reader
        seen = reader.reading.token_seen
        if not data.lstrip().startswith(b"{"):
            return
        if seen:
            self._tokens_bytes += size
            self._tokens_events += 1
        if not seen or reader.may_carry_usage(data):
            with suppress(msgspec.DecodeError):  # one event that is no JSON says nothing of the others
                reader.read_event(data)
        if not seen and reader.reading.token_seen:
            self._tokens_bytes, self._tokens_events = size, 1
            self._overhead = size - reader.first_token_length


class WebSocketMessages(Framing):
    """WebSocketMessages of a WebSocket, each of which comes whole and is an event."""

    def feed(self, chunk: bytes) -> None:
        """Read a message."""
        with suppress(msgspec.DecodeError):  # one message that is no JSON says nothing of the others
            self._reader.read_event(chunk)

    def generated_length(self) -> int:
        """See `Framing.generated_length`."""
        return self._reader.generated_length


def _lines(events: bytes) -> Iterator[bytes]:
    """Yield lines that end with LF, CRLF or CR; one at a time, for an event may have millions."""
    for line in BytesIO(events.removeprefix(_BOM)):
        yield from line.splitlines(keepends=True)


class EventStream(Framing):
    """`application/vnd.amazon.eventstream`, Bedrock's binary stream.

    Frames are described at https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html:
    total length, headers length, checksum, headers, payload, checksum. The payload of Bedrock's chunks is
    `{"bytes": base64}` around the event that the plain API would send. What breaks a stream off is a frame
    with its name among the headers: `throttlingException`.
    """

    _PRELUDE: Final = struct.Struct(">III")
    _ERROR: Final = re.compile(rb":(?:exception-type|error-code)\x07(..)", re.DOTALL)
    """The name of a header, its type, which is a string, and the length of its value."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Read the frames that this piece completes."""
        buffer = self._buffer
        buffer += chunk
        while len(buffer) >= self._PRELUDE.size:
            total, headers, _ = self._PRELUDE.unpack_from(buffer)
            if not self._PRELUDE.size + headers + 4 <= total <= MAX_BUFFERED:
                raise ValueError(f"not an event stream frame: {total} bytes with {headers} of headers")
            if len(buffer) < total:
                return
            begin = self._PRELUDE.size + headers
            self._read_headers(bytes(buffer[self._PRELUDE.size : begin]))
            payload = bytes(buffer[begin : total - 4])
            del buffer[:total]
            with suppress(msgspec.DecodeError):
                self._read(payload)

    def _read_headers(self, headers: bytes) -> None:
        if error := self._ERROR.search(headers):
            code = headers[error.end() :][: int.from_bytes(error[1])]
            self._reader.reading.error = code.decode("utf-8", "replace")

    def _read(self, payload: bytes) -> None:
        inner = msgspec.json.decode(payload, type=_BedrockChunk).bytes
        if isinstance(inner, str):
            self._reader.read_event(base64.b64decode(inner))


class _BedrockChunk(msgspec.Struct):
    bytes: Any = None


class Buffer:
    """Pieces kept until they are whole, in linear time, and let go when they pass `MAX_BUFFERED`."""

    __slots__ = ("_overflown", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._overflown = False

    def __bool__(self) -> bool:
        return bool(self._pieces) or self._overflown

    def add(self, piece: bytes) -> None:
        """Keep a piece."""
        self._size += len(piece)
        if self._size > MAX_BUFFERED:
            self._pieces.clear()
            self._overflown = True
        elif not self._overflown:
            self._pieces.append(piece)

    def drain(self) -> bytes:
        """Return all that was kept, or nothing if it was too much, and begin anew."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._overflown = False
        return data


def last_blank_line(data: bytes) -> int:
    """Return the index behind the last blank line, or -1."""
    unix = data.rfind(b"\n\n")
    dos = data.rfind(b"\n\r\n")
    if unix < 0 and dos < 0:
        mac = data.rfind(b"\r\r")
        return mac + 2 if mac >= 0 else -1
    return max(unix + 2 if unix >= 0 else -1, dos + 3 if dos >= 0 else -1)


def framing_for(content_type: str, first: bytes, reader: Reader) -> Framing:
    """Return the framing of a response.

    Args:
        content_type: the header; it tells binary from text, and is not always right about which text.
        first: the first bytes of the body.
        reader: who is to read what the framing finds.
    """
    begins_with = b"" if _BOM.startswith(first) else first.removeprefix(_BOM).lstrip()[:1]
    if reader.is_websocket:
        return WebSocketMessages(reader)
    if reader.is_json_lines:
        return JsonLines(reader) if begins_with == b"{" else Ignored(reader)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/vnd.amazon.eventstream":
        return EventStream(reader)
    if kind and not kind.startswith("text/") and not kind.endswith("json"):
        return Ignored(reader)
    if begins_with in _JSON_BEGINS or (not begins_with and kind != "text/event-stream"):
        return Body(reader)
    return ServerSentEvents(reader)
