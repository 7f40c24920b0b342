"""Bodies of requests: how large they may be, how much of them is in memory, and what they contain.

Large bodies are decompressed and decoded on threads of their own. A decoder of JSON keeps all other threads
waiting until it returns, also the one of the event loop, so each call of it gets a slice of the body.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from ..bounds import clean_call, mistake
from ..call import Call
from .requests import Problem

T = TypeVar("T")

MAX_BODY: Final = 16 * 2**20
"""Bytes in a request's body, after decompression."""
MAX_MESSAGE: Final = 4 * 2**20
"""Bytes in the body of a request that adds no calls."""
MAX_CALLS: Final = 10_000
"""Calls in one request. Clients send up to 1,000."""
MAX_CALL_BYTES: Final = 2**20
"""Bytes of one call in a request."""
MAX_BYTES_IN_MEMORY: Final = 8 * MAX_BODY
"""Bytes of all requests that are not answered yet."""

_RETRY_SECONDS: Final = 5
_THREADS: Final = 2
_SMALL: Final = 2**15
"""Bytes that are decoded faster than another thread is told to."""
_SLICE_BYTES: Final = 2**19
_MAX_COMMAS: Final = 64 * MAX_CALLS
"""A call has three commas at least, and about 17. This is a cheap bound for lists of anything else."""

_AT: Final = re.compile(r"\$(?:\.calls)?\[(\d+)\]")


class Bodies:
    """Reads and decodes bodies, on the event loop.

    Args:
        refused: Is called when a request is refused, with `memory` or `size`.
    """

    def __init__(self, refused: Callable[[str], object]) -> None:
        self._refused = refused
        self._bytes = 0
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="llm-exporter-bodies")

    def close(self) -> None:
        """Decode no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def decoded(
        self, request: Request, decode: Callable[[bytes], T], at_most: int = MAX_MESSAGE
    ) -> AsyncIterator[T]:
        """Yield what a request's body contains. It counts as in memory until the context ends.

        Args:
            request: The request.
            decode: Decodes the body, without its content encoding; may run on a thread.
            at_most: The maximum number of bytes.

        Raises:
            Problem: 400, 413 or 415 if the body is invalid, or 503 if there are too many others.
        """
        held = _Held(self._bytes_added)
        try:
            body = await self._read(request, at_most, held)
            encoding = request.headers.get("content-encoding", "")
            if encoding:
                body = await self._run(len(body), decompressed, body, encoding, at_most)
                held.add(len(body))
            yield await self._run(len(body), decode, body)
        except Problem as problem:
            if problem.status == 413:
                self._refused("size")
            raise
        finally:
            held.release()

    def _bytes_added(self, number: int) -> None:
        if number > 0 and self._bytes + number > MAX_BYTES_IN_MEMORY:
            self._refused("memory")
            raise Problem(
                503,
                f"requests with {MAX_BYTES_IN_MEMORY} bytes are being processed, which is the maximum",
                {"retry-after": str(_RETRY_SECONDS)},
            )
        self._bytes += number

    async def _read(self, request: Request, at_most: int, held: _Held) -> bytes:
        # A page of another site can send any other type without asking.
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise Problem(415, f"the Content-Type must be application/json, not {content_type!r}")
        body = bytearray()
        try:
            async for chunk in request.stream():
                if len(body) + len(chunk) > at_most:
                    raise too_large(at_most)
                held.add(len(chunk))
                body += chunk
        except ClientDisconnect:
            raise Problem(400, "the request body is incomplete") from None
        return bytes(body)

    async def _run(self, size: int, function: Callable[..., T], *arguments: Any) -> T:
        if size <= _SMALL:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))


class _Held:
    """The bytes of one request."""

    def __init__(self, added: Callable[[int], None]) -> None:
        self._added = added
        self._bytes = 0

    def add(self, number: int) -> None:
        self._added(number)
        self._bytes += number

    def release(self) -> None:
        self._added(-self._bytes)


def too_large(at_most: int = MAX_BODY) -> Problem:
    """Return the error for a body of too many bytes."""
    return Problem(413, f"the body exceeds {at_most} bytes: send fewer calls per request")


def decompressed(body: bytes, encoding: str, at_most: int = MAX_BODY) -> bytes:
    """Return a request's body without its content encoding.

    Raises:
        Problem: The encoding is unsupported, or the body is too large or invalid in it.
    """
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise Problem(415, f"unsupported Content-Encoding {encoding!r}: use gzip")
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        result = decompressor.decompress(body, at_most)
    except zlib.error as error:
        raise Problem(400, f"invalid gzip: {error}") from None
    if decompressor.unconsumed_tail:
        raise too_large(at_most)
    if not decompressor.eof:
        raise Problem(400, "invalid gzip: the body is truncated")
    return result


class _Envelope(msgspec.Struct):
    calls: list[msgspec.Raw]


_split_envelope: Final = msgspec.json.Decoder(_Envelope).decode
_split_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_calls: Final = msgspec.json.Decoder(list[Call]).decode


def calls_in(body: bytes) -> list[Call]:
    """Return the calls in a request's body, a list or an object with `calls`, with clean texts.

    Raises:
        Problem: The body is invalid. The detail names the first mistake and its place.
    """
    calls = [call for calls in _slices(body) for call in calls]
    for number, call in enumerate(calls):
        if reason := mistake(call):
            raise Problem(400, f"call {number}: {reason}")
        clean_call(call)
    return calls


def _slices(body: bytes) -> Iterator[list[Call]]:
    if body.count(b",") > _MAX_COMMAS:
        raise Problem(413, f"the request has more than {MAX_CALLS} calls, or very long ones: send fewer")
    first = 0
    try:
        parts = _split_envelope(body).calls if body.lstrip()[:1] == b"{" else _split_list(body)
        if len(parts) > MAX_CALLS:
            raise Problem(413, f"the request has {len(parts)} calls: send at most {MAX_CALLS} per request")
        for number, part in enumerate(parts):
            if len(part) > MAX_CALL_BYTES:
                raise Problem(413, f"call {number} exceeds {MAX_CALL_BYTES} bytes")
        while first < len(parts):
            end, size = first + 1, len(parts[first])
            while end < len(parts) and (size := size + len(parts[end])) <= _SLICE_BYTES:
                end += 1
            yield _decode_calls(b"[" + b",".join(parts[first:end]) + b"]")
            first = end
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        place = _AT.sub(lambda at: f"$[{first + int(at[1])}]", str(error))
        raise Problem(400, f"invalid calls: {place}") from None
