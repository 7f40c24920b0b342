"""Fixtures for tests of frameworks: all clients are instrumented, as in an application."""

from __future__ import annotations

import pytest

import llm_exporter
from support.acting_model import ActingModel
from support.metered import Metered
from support.operations import CHAT, GEMINI, MESSAGES, RESPONSES, Operation
from support.scripted import Server


@pytest.fixture(autouse=True)
def _everything_is_instrumented(metered: Metered) -> None:
    llm_exporter.instrument()


@pytest.fixture
def provider(server: Server) -> str:
    """Return the URL of a provider that responds in every wire format, streamed or not."""
    for wire in (CHAT, RESPONSES, MESSAGES, GEMINI):
        # Some providers use the same path for both.
        plain, stream = (Operation(wire, "sync", stream=stream).response() for stream in (False, True))
        server.respond_with(wire.paths[0], plain)
        server.stream_with(wire.paths[1], stream)
    return server.url


@pytest.fixture
def model(server: Server) -> ActingModel:
    """Return a model that calls each of its tools once, then answers, and knows whose calls it got."""
    return ActingModel(server)
