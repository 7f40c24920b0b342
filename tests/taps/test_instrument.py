"""Which clients are metered."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import ModuleType
from typing import Any

import anthropic
import openai
import pytest
from google import genai

import llm_exporter
from llm_exporter import taps
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


@FORMATS
def test_a_release_of_an_sdk_that_is_built_in_another_way_stays_unmetered_with_a_warning(
    wire: Format,
    server: Server,
    metered: Metered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.says(operation.path, operation.answer())
    client = operation.client(server.url)
    monkeypatch.setattr(taps, "import_module", ModuleType)
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        assert llm_exporter.instrument(client) is client
    operation.run(client)
    assert metered.calls == []
    (record,) = caplog.records
    sdk = {"chat": openai, "messages": anthropic, "gemini": genai}[wire.name]
    assert record.getMessage().startswith(f"{sdk.__name__} {sdk.__version__} is built in a way")


def test_instrument_warns_of_every_sdk_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)  # as if it were not installed
    monkeypatch.setattr(taps, "import_module", ModuleType)
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        llm_exporter.instrument()
    assert [record.getMessage().split()[0] for record in caplog.records] == ["anthropic", "google.genai"]


def test_the_package_imports_and_instruments_with_no_sdk_installed() -> None:
    script = """
import sys
for sdk in ("openai", "anthropic", "google.genai", "google", "starlette", "uvicorn"):
    sys.modules[sdk] = None
import llm_exporter
llm_exporter.instrument()
llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})
"""
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert run.stderr == b""  # no warning of what is not there


def test_importing_the_package_imports_no_sdk() -> None:
    script = """
import sys, llm_exporter
assert not {"openai", "anthropic", "google.genai", "starlette", "aiohttp"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
