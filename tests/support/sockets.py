"""A stand-in for a provider's WebSocket API, which follows the script of a test."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

SOUND = "UklGRiQA" * 4_000
"""Base64 of audio."""


@dataclass(frozen=True)
class Receive:
    """Wait for a message from the client."""


@dataclass(frozen=True)
class Close:
    """Close the connection with a status code of RFC 6455."""

    code: int = 1000


@dataclass(frozen=True)
class Drop:
    """Drop the connection without a closing handshake."""


Step = dict[str, Any] | str | bytes | Receive | Close | Drop
"""A message to send (a dict is sent as JSON), or an action."""


def encoded(step: Step) -> bytes:
    """Return a message as the client receives it."""
    if isinstance(step, dict):
        return json.dumps(step).encode()
    assert isinstance(step, str | bytes)
    return step.encode() if isinstance(step, str) else step


class SocketServer:
    """A WebSocket server on a loopback port, with a script for each connection."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        """The paths of the connections, including their queries."""
        self.received: list[str | bytes] = []
        """All messages from clients."""
        self._scripts: deque[list[Step]] = deque()

    def script(self, *steps: Step) -> None:
        """Run these steps on the next connection, then wait until the client closes it."""
        self._scripts.append(list(steps))

    def __enter__(self) -> SocketServer:
        self._server = serve(self._connected, "127.0.0.1", 0, compression=None)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sockets")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()

    def _connected(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.paths.append(connection.request.path)
        with suppress(ConnectionClosed):
            for step in self._scripts.popleft():
                self._do(step, connection)
            for message in connection:
                self.received.append(message)

    def _do(self, step: Step, connection: ServerConnection) -> None:
        if isinstance(step, Receive):
            self.received.append(connection.recv())
        elif isinstance(step, Close):
            connection.close(step.code)
        elif isinstance(step, Drop):
            connection.socket.shutdown(2)
        elif isinstance(step, dict):
            connection.send(json.dumps(step))
        else:
            connection.send(step)
