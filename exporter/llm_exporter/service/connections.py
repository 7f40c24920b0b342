"""Limits on connections: how many there are, and how long a client may keep one waiting.

uvicorn limits neither how long a request takes to arrive nor how long a response takes to be read, so clients
that are slow on purpose could use up all file descriptors. `Listener` limits how many connections there are,
`Loop` how long a TLS handshake takes, and `Protocol` everything after it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any, Final

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..log import log

MAX_CONNECTIONS: Final = 1000
KEEP_ALIVE_SECONDS: Final = 75
"""How long an idle connection stays open. Longer than clients wait between two batches of calls."""
HANDSHAKE_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 10.0
"""How long the headers of a request may take, or a new connection without a request."""
BODY_SECONDS: Final = 60.0
READ_SECONDS: Final = 60.0
"""How long a client may read nothing of a response that is waiting for it."""

_WARN_SECONDS: Final = 60.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


class Listener(socket.socket):
    """A listening socket that closes new connections at once while there are too many.

    Args:
        listening: The socket to replace.
        limit: The maximum number of connections.
        respond: Whether to send a response first. With TLS, the client could not read it.
    """

    def __init__(self, listening: socket.socket, limit: int, *, respond: bool) -> None:
        super().__init__(fileno=listening.detach())
        self._limit = limit
        self._respond = respond
        self._accepted: list[socket.socket] = []
        self._warned = -_WARN_SECONDS

    @property
    def connections(self) -> int:
        """How many connections are open."""
        self._accepted = [each for each in self._accepted if each.fileno() >= 0]
        return len(self._accepted)

    @override
    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, or close it and raise `BlockingIOError` as if there were none."""
        connection, address = super().accept()
        if self.connections < self._limit:
            self._accepted.append(connection)
            return connection, address
        with connection, suppress(OSError):
            if self._respond:
                connection.setblocking(False)
                connection.send(_FULL)
        if time.monotonic() - self._warned >= _WARN_SECONDS:
            self._warned = time.monotonic()
            log.warning(
                "llm-exporter: %d connections are open, which is the maximum: new ones are closed",
                self._limit,
            )
        raise BlockingIOError


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers give up TLS handshakes early."""

    @override
    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """Create a server; see `asyncio.loop.create_server`."""
        if options.get("ssl") is not None:
            options |= {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": 1.0}
        return await super().create_server(*args, **options)


class Protocol(H11Protocol):
    """HTTP/1.1 that closes the connections of clients that are too slow. Event streams may stay open."""

    _allowed: float | None = None
    """How many seconds the client has for what it is sending; None if it is not its turn."""
    _arrival: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_arrival()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_arrival()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_arrival()
        if self.transport.is_closing():  # after what is still to be sent, which the client may never read
            self._expect_reading()

    @override
    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self._give_up()
        else:
            super().timeout_keep_alive_handler()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    @override
    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._arrival, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _watch_arrival(self) -> None:
        """Give the client its time for a request. More of the same head or body does not extend it."""
        state, allowed = self.conn.their_state, None
        if state is h11.IDLE and self.timeout_keep_alive_task is None:
            allowed = HEAD_SECONDS
        elif state is h11.SEND_BODY:
            allowed = BODY_SECONDS
        if allowed == self._allowed:
            return
        self._allowed = allowed
        if self._arrival is not None:
            self._arrival.cancel()
        self._arrival = None if allowed is None else self.loop.call_later(allowed, self._give_up)

    def _expect_reading(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self.transport.abort()
