"""The memory that metering a response takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from llm_exporter.wire import framing
from llm_exporter.wire.reader import Reader
from support.hostile import check


def peak_of_metering(
    reader: type[Reader], content_type: str, start: bytes, chunk: bytes, chunks: int, limit: int = 0
) -> int:
    """Return the peak memory in bytes that metering a response allocates.

    Args:
        reader: what reads the response.
        content_type: of the response.
        start: the first bytes of the response.
        chunk: what follows, again and again.
        chunks: how often.
        limit: replaces `framing.MAX_BUFFERED`, in bytes.
    """

    def pieces() -> Iterator[bytes]:
        yield start
        for _ in range(chunks):
            yield bytes(memoryview(chunk))  # a new copy, like every chunk from a network

    with pytest.MonkeyPatch.context() as patch:
        if limit:
            patch.setattr(framing, "MAX_BUFFERED", limit)
        check(reader, [[b"{}"]], content_type)  # allocate what is created only once
        tracemalloc.start()
        try:
            check(reader, [pieces()], content_type)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
