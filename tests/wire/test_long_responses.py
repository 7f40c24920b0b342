"""Responses of any length to every reader: little of them is in memory."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from llm_exporter.wire.reader import Reader
from support.memory import peak_of_metering
from support.samples import AWS, BYTES, JSON, READERS, SSE, frame

PeakOf = Callable[..., int]
readers = pytest.mark.parametrize("reader", READERS)

KILOBYTE = 1024
CHUNK = 64 * KILOBYTE
CHUNKS = 40
LIMIT = 4 * CHUNK
"""Replaces `framing.MAX_BUFFERED`, so that responses of a few megabytes exceed it."""
PIPELINE = 512 * KILOBYTE
"""What a pipeline allocates: 370 kB."""


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
    "frame": (AWS, (LIMIT // 2).to_bytes(4) + bytes(8), CHUNK * b"x"),
}
"""Streams of one event that never ends: content type, first bytes, and a repeated chunk."""


@pytest.fixture(scope="module")
def peak_of() -> Iterator[PeakOf]:
    """Measure in a process of its own: what threads of other tests allocate would be measured, too."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        yield lambda *arguments: pool.submit(peak_of_metering, *arguments).result()


@readers
@pytest.mark.parametrize("kind", JUNK)
def test_long_response_is_not_buffered(reader: type[Reader], kind: str, peak_of: PeakOf) -> None:
    """Of 2,400 events, at most 300 bytes each are kept."""
    content_type, start, chunk = JUNK[kind]

    assert peak_of(reader, content_type, start, chunk, CHUNKS) < PIPELINE + 6 * CHUNK


@readers
@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_event_is_buffered_up_to_the_limit(reader: type[Reader], kind: str, peak_of: PeakOf) -> None:
    """An event of 2.6 MB is dropped once it exceeds the limit."""
    content_type, start, chunk = ENDLESS[kind]

    assert peak_of(reader, content_type, start, chunk, CHUNKS, LIMIT) < PIPELINE + 4 * LIMIT
