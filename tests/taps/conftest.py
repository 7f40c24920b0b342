"""Fixtures: a provider to call over WebSockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.sockets import SocketServer


@pytest.fixture
def sockets() -> Iterator[SocketServer]:
    """A provider that runs what the test scripts on each WebSocket connection."""
    with SocketServer() as server:
        yield server
