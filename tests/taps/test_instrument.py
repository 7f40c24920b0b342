"""Which clients are metered."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import openai
import pytest

import llm_exporter
from metered import Metered
from operations import CHAT, GEMINI, MESSAGES, Format, Operation
from scripted import Server

FORMATS = pytest.mark.parametrize("wire", [CHAT, MESSAGES, GEMINI], ids=lambda wire: wire.name)


def call(wire: Format, client: Any) -> None:
    wire.call(client, False)


@FORMATS
def test_a_client_is_metered_once_however_often_it_is_instrumented(
    wire: Format, server: Server, metered: Metered
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    client = operation.client(server.url)
    llm_exporter.instrument(client)
    llm_exporter.instrument()
    llm_exporter.instrument(client)
    operation.run(client)
    assert metered.total("llm_calls_total") == 1


@FORMATS
def test_other_clients_are_not_metered(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    other = operation.client(server.url)
    with llm_exporter.instrument(operation.client(server.url)):
        operation.run(other)
    assert metered.calls == []


@FORMATS
def test_instrument_meters_every_client_made_before_and_after(
    wire: Format, server: Server, metered: Metered
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    before = operation.client(server.url)
    llm_exporter.instrument()
    after = operation.client(server.url)
    operation.run(before)
    operation.run(after)
    assert len(metered.calls) == 2


@FORMATS
def test_uninstrument_ends_it_for_one_client(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    client = llm_exporter.instrument(operation.client(server.url))
    with client:
        call(wire, client)
        assert llm_exporter.uninstrument(client) is client
        call(wire, client)
    assert len(metered.calls) == 1


@FORMATS
def test_a_client_can_be_excepted_from_all(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    llm_exporter.instrument()
    operation.run(llm_exporter.uninstrument(operation.client(server.url)))
    assert metered.calls == []


def test_copies_of_a_client_are_metered_with_it(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.says(operation.path, operation.answer())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        call(CHAT, client.with_options(timeout=5, max_retries=0))
    assert metered.call.tokens == CHAT.tokens


def test_what_else_goes_through_the_users_http_client_is_not_a_call(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.says(operation.path, operation.answer())
    with openai.DefaultHttpxClient() as http:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="k", http_client=http)
        call(CHAT, llm_exporter.instrument(client))
        http.post(server.url + "/v1/chat/completions", json={})
    assert len(metered.calls) == 1


def test_an_event_hook_of_the_users_http_client_still_runs(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.says(operation.path, operation.answer())
    seen: list[int] = []
    hooks: Any = {"response": [lambda response: seen.append(response.status_code)]}
    with openai.DefaultHttpxClient(event_hooks=hooks) as http:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="k", http_client=http)
        call(CHAT, llm_exporter.instrument(client))
    assert seen == [200]
    assert len(metered.calls) == 1


@pytest.mark.parametrize("client", [object(), "openai", 7, openai], ids=["object", "str", "int", "module"])
def test_what_is_no_client_is_refused_by_name(client: object) -> None:
    with pytest.raises(TypeError, match=f"not a client of openai, .*: {type(client).__name__}"):
        llm_exporter.instrument(client)


def test_the_package_imports_and_instruments_with_no_sdk_installed() -> None:
    script = """
import sys
for sdk in ("openai", "anthropic", "google.genai", "google", "starlette", "uvicorn"):
    sys.modules[sdk] = None
import llm_exporter
llm_exporter.instrument()
llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_package_imports_no_sdk() -> None:
    script = """
import sys, llm_exporter
assert not {"openai", "anthropic", "google.genai", "starlette", "aiohttp"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
