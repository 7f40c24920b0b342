"""Shows a meter the bytes of a response while the caller reads them.

Each chunk passes on as soon as it arrives. A stream ends when it is read to its end, fails, is closed, or is
garbage-collected, whichever happens first.

A response of httpx or httpx2 keeps its class and gets another `stream`, which all its methods read from. The
stream of a compressed response cannot be read by us, so its decoder is replaced, too. Its `iter_raw` yields
the compressed bytes unread and with the usage chunk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ..client.meter import Meter
from ..wire.error_kinds import kind_of_exception

HTTPX_NAMES: Final = frozenset({"_content", "_text", "_decoder", "_get_content_decoder"})
"""The private names of `Response` that the tap relies on, in httpx and httpx2."""


def tap_response(response: Any, meter: Meter) -> None:
    """Feed a meter with the bytes of a response, and finish it when a stream ends.

    If the body has been read already, by an event hook for example, the meter gets it at once.

    Args:
        response: a response of httpx, httpx2, requests or aiohttp.
        meter: the meter of its call.
    """
    if hasattr(response, "iter_bytes"):
        _tap_httpx(response, meter)
        return
    if hasattr(response, "iter_content"):
        _tap_class(response, _TappedRequests, meter)
    else:
        response.content = TappedContent(response.content, meter)
        _tap_class(response, _TappedAiohttp, meter)
    meter.will_stream()


def _tap_httpx(response: Any, meter: Meter) -> None:
    if "_content" in vars(response):
        _show_content(response, meter)
    elif not response.is_stream_consumed and not response.is_closed:
        is_decoded = response.headers.get("content-encoding", "") in ("", "identity")
        if not is_decoded:
            response._decoder = TappedDecoder(response._get_content_decoder(), meter)  # noqa: SLF001
        cls: Any = response.stream.__class__  # as `isinstance` sees it, which is how httpx checks a mock
        response.stream = _tapped_stream(cls)(response.stream, meter, is_decoded=is_decoded)
        meter.will_stream()


def _show_content(response: Any, meter: Meter) -> None:
    """Show a meter a body that the response holds as a whole."""
    attributes = vars(response)
    if meter.filter is None and attributes["_content"][:1] == b"{":  # not server-sent events
        meter.received(attributes["_content"])
        return
    seen = meter.show(attributes["_content"]) + meter.filtered_rest()
    if seen != attributes["_content"]:
        attributes["_content"] = seen
        attributes.pop("_text", None)
    if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        meter.will_stream()
        meter.finish()


@cache  # a process uses only a few classes of streams
def _tapped_stream(cls: Any) -> Any:
    """Return a stream class that httpx accepts wherever it accepts another: by its abstract base classes."""
    abstract = (base for base in cls.__mro__ if base.__name__ in ("SyncByteStream", "AsyncByteStream"))
    return type("TappedStream", (TappedStream, *abstract), {})


class TappedStream:
    """Takes the place of `stream` of a response of httpx or httpx2.

    Args:
        stream: the stream itself.
        meter: the meter of the call.
        is_decoded: whether its bytes are not compressed.
    """

    def __init__(self, stream: Any, meter: Meter, *, is_decoded: bool) -> None:
        self._stream = stream
        self._meter = meter
        self._is_decoded = is_decoded
        self._is_read = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes, and show them to the meter the first time only."""
        if self._is_read:
            return iter(self._stream)
        self._is_read = True
        return self._metered()

    def __aiter__(self) -> AsyncIterator[bytes]:
        """As `__iter__`. openai reads what is left of an asynchronous stream a second time."""
        if self._is_read:
            return aiter(self._stream)
        self._is_read = True
        return self._ametered()

    def _metered(self) -> Iterator[bytes]:
        show = self._show
        try:
            for chunk in self._stream:
                if seen := show(chunk):
                    yield seen
            if self._is_decoded and (rest := self._meter.filtered_rest()):
                yield rest
        except GeneratorExit:
            raise  # the caller stopped reading, which is not an error
        except BaseException as error:
            self._meter.finish(kind_of_exception(error))
            raise
        finally:
            self._meter.finish()

    async def _ametered(self) -> AsyncIterator[bytes]:
        show, stream = self._show, aiter(self._stream)
        try:
            async for chunk in stream:
                if seen := show(chunk):
                    yield seen
            if self._is_decoded and (rest := self._meter.filtered_rest()):
                yield rest
        except GeneratorExit:
            raise
        except BaseException as error:
            self._meter.finish(kind_of_exception(error))
            raise
        finally:
            self._meter.finish()
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    @property
    def _show(self) -> Callable[[bytes], bytes]:
        return self._meter.show if self._is_decoded else bytes

    def close(self) -> None:
        """Close the stream."""
        try:
            self._stream.close()
        finally:
            self._meter.finish()

    async def aclose(self) -> None:
        """Close the stream."""
        try:
            await self._stream.aclose()
        finally:
            self._meter.finish()

    def __del__(self) -> None:
        self._meter.finish()


class TappedDecoder:
    """Takes the place of the decoder of a compressed response of httpx or httpx2."""

    def __init__(self, decoder: Any, meter: Meter) -> None:
        self._decoder = decoder
        self._meter = meter

    def decode(self, data: bytes) -> Any:
        """Return the decoded bytes that the caller may see, as a whole or in pieces, as the decoder does."""
        return self._shown(self._decoder.decode, data)

    def flush(self) -> Any:
        """Return the last decoded bytes."""
        rest = self._shown(self._decoder.flush)
        if isinstance(rest, bytes):
            return rest + self._meter.filtered_rest()
        return self._with_rest(rest)

    def _shown(self, decode: Callable[..., Any], *data: bytes) -> Any:
        try:
            decoded = decode(*data)
        except Exception as error:
            self._meter.finish(kind_of_exception(error))
            raise
        return self._meter.show(decoded) if isinstance(decoded, bytes) else self._each(decoded)

    def _each(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        try:
            yield from map(self._meter.show, pieces)
        except Exception as error:
            self._meter.finish(kind_of_exception(error))
            raise

    def _with_rest(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        yield from pieces
        yield self._meter.filtered_rest()


def _tap_class(response: Any, mixin: Any, meter: Meter) -> None:
    """Make a response an instance of a subclass of its class.

    Replacing its methods would create a reference cycle: a dropped response would no longer free its
    connection at once.
    """
    cls: Any = type(response)
    response.__class__ = _tapped_class(cls, mixin)
    vars(response)["_llm_exporter_meter"] = meter


@cache  # a process uses only a few response classes
def _tapped_class(cls: Any, mixin: Any) -> Any:
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})


class _Tapped:
    if TYPE_CHECKING:
        _llm_exporter_meter: Meter

    def close(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().close(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._llm_exporter_meter.finish()

    def __del__(self) -> None:
        self._llm_exporter_meter.finish()
        if finalizer := getattr(super(), "__del__", None):
            finalizer()


class _TappedRequests(_Tapped):
    def iter_content(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        meter = self._llm_exporter_meter
        try:
            for chunk in super().iter_content(*args, **kwargs):  # type: ignore[misc]
                meter.feed(chunk)
                yield chunk
        except GeneratorExit:
            raise  # the caller stopped reading, which is not an error
        except BaseException as error:
            meter.finish(kind_of_exception(error))
            raise
        finally:
            meter.finish()


class _TappedAiohttp(_Tapped):
    def release(self) -> Any:
        try:
            return super().release()  # type: ignore[misc]
        finally:
            self._llm_exporter_meter.finish()


class TappedContent:
    """Takes the place of `content` of an aiohttp response, the stream that the body is read from."""

    def __init__(self, content: Any, meter: Meter) -> None:
        self._content = content
        self._meter = meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self, n: int = -1) -> bytes:
        """Read the whole body, or at most n bytes."""
        return await self._fed(self._content.read(n))

    async def readany(self) -> bytes:
        """Read the bytes that have arrived."""
        return await self._fed(self._content.readany())

    async def readline(self, **kwargs: Any) -> bytes:
        """Read up to the end of a line."""
        return await self._fed(self._content.readline(**kwargs))

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Yield bytes as they arrive."""
        while chunk := await self.readany():
            yield chunk

    async def _fed(self, read: Awaitable[bytes]) -> bytes:
        try:
            chunk = await read
        except BaseException as error:
            self._meter.finish(kind_of_exception(error))
            raise
        if chunk:
            self._meter.feed(chunk)
        else:
            self._meter.finish()
        return chunk
