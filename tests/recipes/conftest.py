"""What the recipes call: a provider, and the service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import payloads
from support.recipes import USAGE
from support.scripted import Server
from support.served import Served


@pytest.fixture
def provider(server: Server) -> Server:
    """A provider that answers chat completions."""
    server.respond_with("/v1/chat/completions", payloads.chat(USAGE))
    server.stream_with("/v1/chat/completions", payloads.chat_stream(USAGE))
    return server


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path / "service") as served:
        yield served
