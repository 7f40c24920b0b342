"""Shows a meter the bytes of a response while the caller reads them.

Each chunk passes on as soon as it arrives. A stream ends when it is read to its end, fails, is closed, or is
garbage-collected, whichever happens first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from ..client.meter import Meter
from ..wire.error_kinds import kind_of_exception


def tap_response(response: Any, meter: Meter) -> None:
    """Feed a meter with the bytes that are read from a response, and finish it when the response ends.

    The response becomes an instance of a subclass of its class. Replacing its methods would create a
    reference cycle: a dropped response would no longer free its connection at once.

    Args:
        response: a response of httpx, httpx2, requests or aiohttp whose body has not been read.
        meter: the meter of its call.
    """
    if hasattr(response, "iter_bytes"):
        mixin: Any = _TappedHttpx
    elif hasattr(response, "iter_content"):
        mixin = _TappedRequests
    else:
        response.content = TappedContent(response.content, meter)
        mixin = _TappedAiohttp
    cls: Any = type(response)
    response.__class__ = _tapped_class(cls, mixin)
    vars(response).update(_llm_exporter_meter=meter, _llm_exporter_reading=False)


@cache  # a process uses only a few response classes
def _tapped_class(cls: Any, mixin: Any) -> Any:
    return type(cls.__name__, (mixin, cls), {"__module__": cls.__module__, "__qualname__": cls.__qualname__})


class _Tapped:
    if TYPE_CHECKING:
        _llm_exporter_meter: Meter
        _llm_exporter_reading: bool
        """True while the response's own code runs: it may close itself before it yields its last bytes."""

    def _llm_exporter_iterate(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        meter = self._llm_exporter_meter
        try:
            self._llm_exporter_reading = True
            for chunk in chunks:
                self._llm_exporter_reading = False
                meter.feed(chunk)
                if meter.filter is None:
                    yield chunk
                elif seen := meter.filtered(chunk):
                    yield seen
                self._llm_exporter_reading = True
            if rest := meter.filtered_rest():
                yield rest
        except GeneratorExit:
            raise  # the caller stopped reading, which is not an error
        except BaseException as error:
            meter.finish(kind_of_exception(error))
            raise
        finally:
            self._llm_exporter_closed()

    async def _llm_exporter_aiterate(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        meter = self._llm_exporter_meter
        try:
            self._llm_exporter_reading = True
            async for chunk in chunks:
                self._llm_exporter_reading = False
                meter.feed(chunk)
                if meter.filter is None:
                    yield chunk
                elif seen := meter.filtered(chunk):
                    yield seen
                self._llm_exporter_reading = True
            if rest := meter.filtered_rest():
                yield rest
        except GeneratorExit:
            raise
        except BaseException as error:
            meter.finish(kind_of_exception(error))
            raise
        finally:
            self._llm_exporter_closed()

    def _llm_exporter_closed(self) -> None:
        self._llm_exporter_reading = False
        self._llm_exporter_meter.finish()

    def close(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().close(*args, **kwargs)  # type: ignore[misc]
        finally:
            if not self._llm_exporter_reading:
                self._llm_exporter_meter.finish()

    def __del__(self) -> None:
        self._llm_exporter_meter.finish()
        if finalizer := getattr(super(), "__del__", None):
            finalizer()


class _TappedHttpx(_Tapped):
    def iter_bytes(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        return self._llm_exporter_iterate(super().iter_bytes(*args, **kwargs))  # type: ignore[misc]

    def aiter_bytes(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        return self._llm_exporter_aiterate(super().aiter_bytes(*args, **kwargs))  # type: ignore[misc]

    async def aclose(self) -> None:
        try:
            await super().aclose()  # type: ignore[misc]
        finally:
            if not self._llm_exporter_reading:
                self._llm_exporter_meter.finish()


class _TappedRequests(_Tapped):
    def iter_content(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
        return self._llm_exporter_iterate(super().iter_content(*args, **kwargs))  # type: ignore[misc]


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
