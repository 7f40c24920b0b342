"""Assembles the chunks of a response into the bodies and events that a `Reader` reads.

A framing accepts chunks of any size. It buffers only the incomplete event and a few small pending chunks.
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
from typing_extensions import override

from .reader import Reader

_JSON_STARTS: Final = (b"{", b"[")

_BOM: Final = b"\xef\xbb\xbf"

_DONE: Final = b"data: [DONE]\n\n"

_CHUNKS_AT_ONCE: Final = 16
"""Chunks of a stream that are scanned together; scanning them costs little more than scanning one."""
_SMALL_CHUNK: Final = 1024
"""Largest chunk, in bytes, that may wait to be scanned with others."""

MAX_BUFFERED: Final = 64 * 1024 * 1024
"""Largest body or event in bytes; a larger one is dropped unread."""


class Framing(ABC):
    """Receives the decoded bytes of a response in order, and is told when they end."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @abstractmethod
    def feed(self, chunk: bytes) -> None:
        """Process the next chunk."""

    def end(self) -> None:  # noqa: B027 - nothing is left in most framings
        """Read what is left when the response ends, complete or not."""

    def generated_length(self) -> int:
        """Return the approximate length of the text generated so far, for use if no usage is reported."""
        return 0


class Ignored(Framing):
    """A response without usage, such as audio. Nothing of it is buffered."""

    @override
    def feed(self, chunk: bytes) -> None:
        pass


class Body(Framing):
    """A JSON body, or a JSON array of events, which Gemini streams unless `alt=sse` is requested."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = Buffer()

    @property
    def size(self) -> int:
        """The bytes that `end` will read."""
        return self._buffer.size

    @override
    def feed(self, chunk: bytes) -> None:
        self._buffer.add(chunk)  # by reference: the SDK holds the same bytes

    @override
    def end(self) -> None:
        data = self._buffer.drain().removeprefix(_BOM).lstrip()
        if data.startswith(b"["):
            for event in msgspec.json.decode(data, type=list[msgspec.Raw]):
                self._reader.read_event(bytes(event))
        elif data:
            self._reader.read_body(data)


class JsonLines(Framing):
    """JSON lines: one JSON value on each line."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = Buffer()

    @override
    def feed(self, chunk: bytes) -> None:
        for line in BytesIO(chunk):  # no list: one of very short lines is many times their size
            self._buffer.add(line)
            if line.endswith(b"\n"):
                self._read(self._buffer.drain())

    @override
    def end(self) -> None:
        self._read(self._buffer.drain())  # a last line without a line end

    def _read(self, line: bytes) -> None:
        if line.strip():
            with suppress(msgspec.DecodeError):  # an invalid line does not spoil the others
                self._reader.read_event(line)


class ServerSentEvents(Framing):
    """`text/event-stream`: https://html.spec.whatwg.org/multipage/server-sent-events.html.

    Most chunks of a stream contain no usage. Small chunks after the first token are therefore scanned in
    groups, and parsed only if `Reader.may_carry_usage` returns True.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reading = reader.reading
        self._pending: list[bytes] = []
        """The latest chunks, not scanned yet."""
        self._buffer = Buffer()
        self._seam = b""
        """The last two buffered bytes: a blank line may be split between two chunks."""
        self._token_bytes = self._token_lines = 0
        """The bytes and lines of the events with generated tokens."""
        self._overhead = 0.0
        """Bytes in each of these lines that are not text, estimated from the first event."""

    @override
    def feed(self, chunk: bytes) -> None:
        pending = self._pending
        pending.append(chunk)
        if len(pending) == _CHUNKS_AT_ONCE or len(chunk) > _SMALL_CHUNK or not self._reading.token_seen:
            self._scan()

    def _scan(self) -> None:
        chunk = b"".join(self._pending)
        self._pending.clear()
        end = last_blank_line(chunk)
        if end < 0 and self._seam:
            end = last_blank_line(self._seam + chunk[:2]) - len(self._seam)
        if end <= 0:
            self._keep(chunk)
            return
        complete = chunk[:end]
        if self._buffer:
            self._buffer.add(complete)
            complete = self._buffer.drain()
        self._seam = b""
        if end < len(chunk):
            self._keep(chunk[end:])
        self._read(complete)

    def _keep(self, incomplete: bytes) -> None:
        self._buffer.add(incomplete)
        self._seam = (self._seam + incomplete)[-2:]

    @override
    def end(self) -> None:
        self._scan()
        self._read(self._buffer.drain())  # an event without its closing blank line

    @override
    def generated_length(self) -> int:
        return max(self._token_bytes - round(self._token_lines * self._overhead), 0)

    def _read(self, events: bytes) -> None:
        """Read those of some complete events that matter."""
        if not self._reading.token_seen:
            self._read_each(events)
        elif not self._reader.may_carry_usage(events):
            self._skip(events.removesuffix(_DONE))
        elif (last := last_blank_line(events[: self._reader.latest_usage(events)])) > 0:
            self._read_latest(events[:last], events[last:])
        else:
            self._read_each(events)

    def _read_latest(self, superseded: bytes, events: bytes) -> None:
        """Read events with usage, and those that they supersede only if it was not usage after all."""
        before = self._reading.tokens
        self._read_each(events)
        if self._reading.tokens is before:  # the arguments of a function may have the same keys
            self._read_each(superseded)
        else:
            self._skip(superseded)

    def _read_each(self, events: bytes) -> None:
        """Read events. Many at once are halved until only those with usage are taken apart."""
        if len(events) > _SMALL_CHUNK and (middle := last_blank_line(events[: len(events) // 2])) > 0:
            self._read(events[:middle])
            self._read(events[middle:])
        else:
            self._take_apart(events)

    def _skip(self, events: bytes) -> None:
        self._token_bytes += len(events)
        self._token_lines += events.count(b"\n") or events.count(b"\r")

    def _take_apart(self, events: bytes) -> None:
        data: list[bytes] = []
        size = lines = 0
        for line in _lines(events):
            size += len(line)
            lines += 1
            if line.startswith(b"data:"):
                data.append(line[5:].rstrip(b"\r\n").removeprefix(b" "))
            elif not line.strip(b"\r\n"):
                if data:
                    self._dispatch(data, size, lines)
                data, size, lines = [], 0, 0
        if data:
            self._dispatch(data, size, lines)

    def _dispatch(self, parts: list[bytes], size: int, lines: int) -> None:
        data = parts[0] if len(parts) == 1 else b"\n".join(parts)
        reader = self._reader
        seen = reader.reading.token_seen
        if not data.lstrip().startswith(b"{"):
            return
        if seen:
            self._token_bytes += size
            self._token_lines += lines
        if not seen or reader.may_carry_usage(data):
            with suppress(msgspec.DecodeError):  # an invalid event does not spoil the others
                reader.read_event(data)
        if not seen and reader.reading.token_seen:
            self._token_bytes, self._token_lines = size, lines
            self._overhead = (size - reader.first_token_length) / lines


class WebSocketMessages(Framing):
    """WebSocket messages. Each chunk is one complete message, and an event."""

    @override
    def feed(self, chunk: bytes) -> None:
        with suppress(msgspec.DecodeError):  # an invalid message does not spoil the others
            self._reader.read_event(chunk)

    @override
    def generated_length(self) -> int:
        return self._reader.generated_length


def _lines(events: bytes) -> Iterator[bytes]:
    """Yield the lines, ended by LF, CRLF or CR. A list would not do: an event may have millions."""
    for line in BytesIO(events.removeprefix(_BOM)):
        yield from line.splitlines(keepends=True)


class EventStream(Framing):
    """`application/vnd.amazon.eventstream`, the binary stream of Amazon Bedrock.

    A frame consists of total length, headers length, checksum, headers, payload and checksum
    (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html). Bedrock's payload is
    `{"bytes": base64}` and wraps the event of the provider's own API. An error ends the stream with a frame
    whose headers name it, for example `throttlingException`.
    """

    _PRELUDE: Final = struct.Struct(">III")
    _ERROR: Final = re.compile(rb":(?:exception-type|error-code)\x07(..)", re.DOTALL)
    """A header's name, its type (7: string) and the length of its value."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._buffer = bytearray()

    @override
    def feed(self, chunk: bytes) -> None:
        buffer = self._buffer
        buffer += chunk
        while len(buffer) >= self._PRELUDE.size:
            total, headers, _ = self._PRELUDE.unpack_from(buffer)
            if not self._PRELUDE.size + headers + 4 <= total <= MAX_BUFFERED:
                raise ValueError(f"invalid event stream frame: {total} bytes, {headers} of them headers")
            if len(buffer) < total:
                return
            start = self._PRELUDE.size + headers
            self._read_headers(bytes(buffer[self._PRELUDE.size : start]))
            payload = bytes(buffer[start : total - 4])
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
    """Joins chunks in linear time, and drops them once they exceed `MAX_BUFFERED`."""

    __slots__ = ("_chunks", "_overflowed", "size")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self.size = 0
        """The bytes that were added, kept or not."""
        self._overflowed = False

    def __bool__(self) -> bool:
        return bool(self._chunks) or self._overflowed

    def add(self, chunk: bytes) -> None:
        """Append a chunk."""
        self.size += len(chunk)
        if self.size > MAX_BUFFERED:
            self._chunks.clear()
            self._overflowed = True
        elif not self._overflowed:
            self._chunks.append(chunk)

    def drain(self) -> bytes:
        """Return the joined chunks, or nothing if they were too large, and clear the buffer."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.size = 0
        self._overflowed = False
        return data


def last_blank_line(data: bytes) -> int:
    """Return the index just after the last blank line, or -1 if there is none."""
    unix = data.rfind(b"\n\n")
    dos = data.rfind(b"\n\r\n", max(unix, 0))
    if unix < 0 and dos < 0:
        mac = data.rfind(b"\r\r")
        return mac + 2 if mac >= 0 else -1
    return max(unix + 2 if unix >= 0 else -1, dos + 3 if dos >= 0 else -1)


def framing_for(content_type: str, first: bytes, reader: Reader) -> Framing:
    """Return the framing of a response.

    Args:
        content_type: the header. It tells binary from text reliably, but not JSON from server-sent events.
        first: the first bytes of the body.
        reader: the reader of the bodies and events.
    """
    starts_with = b"" if _BOM.startswith(first) else first.removeprefix(_BOM).lstrip()[:1]
    if reader.is_websocket:
        return WebSocketMessages(reader)
    if reader.is_json_lines:
        return JsonLines(reader) if starts_with == b"{" else Ignored(reader)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/vnd.amazon.eventstream":
        return EventStream(reader)
    if kind and not kind.startswith("text/") and not kind.endswith("json"):
        return Ignored(reader)
    if starts_with in _JSON_STARTS or (not starts_with and kind != "text/event-stream"):
        return Body(reader)
    return ServerSentEvents(reader)
