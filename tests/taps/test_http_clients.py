"""HTTP clients stay as they are: tracers, mocks and subclasses work, whether they come before us or after."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from unittest import mock

import anthropic
import httpx
import httpx2
import openai
import pytest
from google import genai
from google.genai import types

import llm_exporter
from llm_exporter.client.meter import Meter, current
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.taps.boundary import ametered
from llm_exporter.wire.openai import ChatReader
from support.metered import Metered
from support.operations import CHAT, MESSAGES, Format
from support.payloads import dump
from support.scripted import Response, Server

INTERACTION = {
    "id": "v1_a",
    "object": "interaction",
    "model": "gemini-2.5-flash",
    "status": "completed",
    "created": "2026-01-01T00:00:00Z",
    "updated": "2026-01-01T00:00:00Z",
    "steps": [],
    "usage": {"total_input_tokens": 100, "total_output_tokens": 20, "total_tokens": 120},
}


@dataclass(frozen=True)
class Kind:
    """A kind of HTTP client, as one of the SDKs uses it."""

    name: str
    path: str
    response: Callable[[], Response]
    make: Callable[[str], Any]
    """Makes a client of the SDK for a provider at a URL."""
    http_of: Callable[[Any], Any]
    """Returns the HTTP client of a client."""
    call: Callable[[Any], Any]

    def __str__(self) -> str:
        return self.name


def _stainless(wire: Format, name: str, make: Callable[[str], Any]) -> Kind:
    return Kind(
        name,
        wire.paths[0],
        wire.responses[0],
        make,
        http_of=attrgetter("_client"),
        call=lambda client: wire.call(client, False),
    )


def _interactions(name: str, http: str, interactions: str) -> Kind:
    def make(url: str) -> Any:
        if not hasattr(genai.Client, "interactions") or genai.__version__.startswith("1."):
            pytest.skip("google-genai sends interactions over its HTTP client since 2.9")
        options = types.HttpOptions(base_url=url, async_client_args={"transport": httpx.AsyncHTTPTransport()})
        return genai.Client(api_key="k", vertexai=False, http_options=options)

    return Kind(
        name,
        "/interactions",
        lambda: Response(dump(INTERACTION)),
        make,
        http_of=attrgetter(f"_api_client.{http}"),
        call=lambda client: attrgetter(interactions)(client).create(model="gemini-2.5-flash", input="x"),
    )


def _openai_on_httpx(url: str) -> Any:
    http: Any = httpx.Client()
    return openai.OpenAI(base_url=url + "/v1", api_key="k", http_client=http)


def _async_openai_on_httpx(url: str) -> Any:
    http: Any = httpx.AsyncClient()
    return openai.AsyncOpenAI(base_url=url + "/v1", api_key="k", http_client=http)


KINDS = [
    _stainless(CHAT, "openai", CHAT.clients["sync"]),
    _stainless(CHAT, "async openai", CHAT.clients["async"]),
    _stainless(CHAT, "openai on httpx", _openai_on_httpx),
    _stainless(CHAT, "async openai on httpx", _async_openai_on_httpx),
    _stainless(MESSAGES, "anthropic", MESSAGES.clients["sync"]),
    _stainless(MESSAGES, "async anthropic", MESSAGES.clients["async"]),
    _interactions("google", "_httpx_client", "interactions"),
    _interactions("async google", "_async_httpx_client", "aio.interactions"),
]
EVERY = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@dataclass
class Caller:
    """A client of an SDK and its HTTP client, for a provider that responds to each call."""

    kind: Kind
    client: Any
    http: Any
    run: Callable[..., Any]
    """Runs a coroutine."""

    def call(self) -> None:
        """Make one call."""
        made = self.kind.call(self.client)
        if inspect.isawaitable(made):
            self.run(_awaited(made))

    def __post_init__(self) -> None:
        self._before = self._sends()

    @property
    def has_its_own_send(self) -> bool:
        """Whether the HTTP client and its class send as they did at first."""
        return self._sends() == self._before

    def _sends(self) -> list[object]:
        return [vars(each).get("send") for each in (self.http, *type(self.http).__mro__)]

    def sending(self, before: Callable[[], object]) -> Callable[..., Any]:
        """Return a `send` for a class of HTTP clients that calls back first."""
        send = type(self.http).send

        def traced(http: Any, request: Any, **kwargs: Any) -> Any:
            before()
            return send(http, request, **kwargs)

        return traced


async def _awaited(made: Any) -> Any:
    return await made


@pytest.fixture
def caller(request: pytest.FixtureRequest, server: Server) -> Iterator[Caller]:
    kind: Kind = request.getfixturevalue("kind")
    server.respond_with(kind.path, kind.response())
    client = kind.make(server.url)
    with asyncio.Runner() as runner:
        caller = Caller(kind, client, kind.http_of(client), runner.run)
        yield caller
        if hasattr(caller.http, "aclose"):
            runner.run(caller.http.aclose())
        else:
            caller.http.close()


@EVERY
def test_the_http_client_and_its_class_stay_as_they_are(kind: Kind, caller: Caller, metered: Metered) -> None:
    caller.call()
    of_http, of_class = dict(vars(caller.http)), dict(vars(type(caller.http)))
    llm_exporter.instrument()
    caller.call()
    assert (dict(vars(caller.http)), dict(vars(type(caller.http)))) == (of_http, of_class)
    assert kind.http_of(caller.client) is caller.http
    assert metered.call.usage_reported


@EVERY
def test_a_patch_of_the_class_works_after_the_first_call_and_leaves_no_trace(
    kind: Kind, caller: Caller, metered: Metered
) -> None:
    llm_exporter.instrument()
    caller.call()
    sent: list[None] = []
    with mock.patch.object(type(caller.http), "send", caller.sending(lambda: sent.append(None))):
        caller.call()
        caller.call()
    caller.call()
    assert len(sent) == 2
    assert [call.usage_reported for call in metered.calls] == 4 * [True]
    assert caller.has_its_own_send


@EVERY
def test_a_patch_of_the_client_works_after_the_first_call_and_leaves_no_trace(
    kind: Kind, caller: Caller, metered: Metered
) -> None:
    llm_exporter.instrument()
    caller.call()
    with mock.patch.object(caller.http, "send", wraps=caller.http.send) as send:
        caller.call()
        caller.call()
        assert len(send.mock_calls) == 2
    caller.call()
    assert [call.usage_reported for call in metered.calls] == 4 * [True]
    assert caller.has_its_own_send


@EVERY
@pytest.mark.parametrize("patches_class", [False, True], ids=["client", "class"])
def test_a_patch_around_the_first_call_does_not_end_metering(
    patches_class: bool, kind: Kind, caller: Caller, metered: Metered
) -> None:
    sent: list[None] = []
    send = caller.sending(lambda: sent.append(None))
    if patches_class:
        patch = mock.patch.object(type(caller.http), "send", send)
    else:
        patch = mock.patch.object(caller.http, "send", send.__get__(caller.http))
    with patch:
        llm_exporter.instrument()
        caller.call()
    caller.call()
    assert len(sent) == 1
    assert [call.usage_reported for call in metered.calls] == 2 * [True]
    assert caller.has_its_own_send


@EVERY
def test_patches_may_end_in_another_order_than_they_began(
    kind: Kind, caller: Caller, metered: Metered
) -> None:
    sent: list[str] = []
    first = mock.patch.object(type(caller.http), "send", caller.sending(lambda: sent.append("first")))
    first.start()
    llm_exporter.instrument()
    caller.call()
    second = mock.patch.object(type(caller.http), "send", caller.sending(lambda: sent.append("second")))
    second.start()
    caller.call()
    llm_exporter.uninstrument()
    caller.call()
    llm_exporter.instrument()
    second.stop()
    first.stop()
    caller.call()
    assert sent == ["first", "second", "first", "second", "first"]
    assert [call.usage_reported for call in metered.calls] == 3 * [True]
    assert caller.has_its_own_send


@EVERY
def test_a_mock_that_raises_is_a_failed_attempt(kind: Kind, caller: Caller, metered: Metered) -> None:
    class NoNetworkError(Exception):
        pass

    llm_exporter.instrument()
    caller.call()
    with mock.patch.object(type(caller.http), "send", side_effect=NoNetworkError), pytest.raises(Exception):  # noqa: B017, PT011
        caller.call()
    caller.call()
    assert [call.usage_reported for call in metered.calls] == [True, False, True]
    assert metered.calls[1].error is not None


@EVERY
def test_a_subclass_may_compute_its_send(kind: Kind, caller: Caller, metered: Metered) -> None:
    sent: list[None] = []

    class Subclass(type(caller.http)):  # type: ignore[misc]
        __slots__ = ()

        @property
        def send(self) -> Any:
            sent.append(None)
            return super().send

    caller.http.__class__ = Subclass
    llm_exporter.instrument()
    caller.call()
    llm_exporter.uninstrument()
    caller.call()
    assert len(sent) == 2
    assert metered.call.usage_reported


@EVERY
def test_uninstrument_removes_what_stands_in_for_http_clients(
    kind: Kind, caller: Caller, metered: Metered
) -> None:
    owners = [
        openai.OpenAI,
        openai.AsyncOpenAI,
        type(openai.chat),
        anthropic.Anthropic,
        anthropic.AsyncAnthropic,
    ]
    before = [inspect.getattr_static(owner, "_client", None) for owner in owners]
    for _ in range(2):
        llm_exporter.instrument()
        caller.call()
        llm_exporter.uninstrument()
        assert [inspect.getattr_static(owner, "_client", None) for owner in owners] == before
        caller.call()
    assert len(metered.calls) == 2


@pytest.mark.parametrize("given", [False, True], ids=["the SDK's client", "the user's client"])
def test_calls_of_the_module_openai_are_metered(
    given: bool, server: Server, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client is of a subclass that computes `_client`."""
    server.respond_with(CHAT.paths[0], CHAT.responses[0]())
    llm_exporter.instrument()
    http = openai.DefaultHttpxClient() if given else None
    monkeypatch.setattr(openai, "api_key", "k")
    monkeypatch.setattr(openai, "base_url", server.url + "/v1/")
    monkeypatch.setattr(openai, "http_client", http)
    monkeypatch.setattr(openai, "_client", None)
    for _ in range(2):
        CHAT.call(openai, False)
    assert [call.tokens for call in metered.calls] == 2 * [CHAT.tokens]
    assert http is None or openai.http_client is http
    assert openai.http_client is not None
    llm_exporter.uninstrument()
    CHAT.call(openai, False)
    assert len(metered.calls) == 2
    openai.http_client.close()


def certified(request: Any) -> Any:
    """Respond to the exchange of a certificate for a token, and to the calls that follow."""
    if request.url.path == "/oauth/token":
        token = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"}
        return httpx2.Response(200, json=token)
    assert request.headers["authorization"] == "Bearer token"
    return httpx2.Response(
        200, content=CHAT.responses[0]().body, headers={"content-type": "application/json"}
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_calls_of_a_client_with_a_certificate_are_metered(kind: str, metered: Metered) -> None:
    """It sends them with an HTTP client of a second kind."""
    if not hasattr(getattr(openai, "auth", None), "x509_workload_identity"):
        pytest.skip("this release of openai has no certificates")
    identity = openai.auth.x509_workload_identity(identity_provider_id="p", service_account_id="s")
    transport = httpx2.MockTransport(certified)
    llm_exporter.instrument()
    if kind == "sync":
        with openai.OpenAI(
            workload_identity=identity, http_client=httpx2.Client(transport=transport)
        ) as client:
            CHAT.call(client, False)
    else:

        async def run() -> None:
            http = httpx2.AsyncClient(transport=transport)
            async with openai.AsyncOpenAI(workload_identity=identity, http_client=http) as opened:
                await CHAT.call(opened, False)

        asyncio.run(run())
    assert metered.call.tokens == CHAT.tokens
    assert metered.call.retries == []


# ---- what code that runs within a call sees


class Copying(openai.OpenAI):
    """Copies itself in the middle of a call, as a hook may do."""

    def _prepare_request(self, request: Any) -> None:
        if not hasattr(self, "copied"):
            self.__dict__["seen"] = self._client
            self.__dict__["copied"] = self.with_options(max_retries=1)


def test_a_client_that_is_copied_within_a_call_shares_the_http_client(
    server: Server, metered: Metered
) -> None:
    server.respond_with(CHAT.paths[0], CHAT.responses[0]())
    with llm_exporter.instrument(Copying(base_url=server.url + "/v1", api_key="k")) as client:
        http = client._client
        CHAT.call(client, False)
        copied = vars(client)["copied"]
        assert vars(copied)["_client"] is copied._client is http
        CHAT.call(copied, False)
    assert [call.usage_reported for call in metered.calls] == [True, True]


def test_the_http_client_within_a_call_passes_for_itself(server: Server, metered: Metered) -> None:
    server.respond_with(CHAT.paths[0], CHAT.responses[0]())
    with llm_exporter.instrument(Copying(base_url=server.url + "/v1", api_key="k")) as client:
        http: Any = client._client
        CHAT.call(client, False)
        seen = vars(client)["seen"]
        assert isinstance(seen, type(http))
        assert seen.__class__ is type(http)
        assert seen == http
        assert {seen: 1, http: 2} == {http: 2}
        assert vars(seen) is vars(http)
        seen.timeout = 7
        assert http.timeout == seen.timeout == type(http.timeout)(7)
        seen.mark = 1
        del seen.mark
        assert not hasattr(http, "mark")
        assert len(metered.calls) == 1
        seen.send(seen.build_request("POST", server.url + CHAT.paths[0]))  # not in a call any more
    assert len(metered.calls) == 1


def test_a_client_without_an_http_client_raises_its_own_error() -> None:
    llm_exporter.instrument()
    client = openai.OpenAI.__new__(openai.OpenAI)
    assert not hasattr(client, "_client")
    with pytest.raises(AttributeError, match=r"^'OpenAI' object has no attribute '_client'$"):
        client._client  # noqa: B018
    client._client = http = httpx.Client()  # type: ignore[assignment]
    llm_exporter.uninstrument()
    assert client._client is http  # type: ignore[comparison-overlap]
    llm_exporter.instrument()
    del client._client
    assert not hasattr(client, "_client")
    with pytest.raises(AttributeError):
        del client._client
    http.close()


class Refreshing(openai.OpenAI):
    """Makes a free request in the middle of a call."""

    def _prepare_options(self, options: Any) -> Any:
        if str(options.url).endswith("/completions"):
            assert list(self.models.list()) == []
        return options


def test_a_free_request_within_a_call_is_no_attempt_of_the_call(server: Server, metered: Metered) -> None:
    server.respond_with(
        "/models",
        Response(b"{}", status=500, headers={"retry-after-ms": "1"}),
        Response(b'{"data": [], "object": "list"}'),
    )
    server.respond_with(CHAT.paths[0], CHAT.responses[0]())
    with llm_exporter.instrument(Refreshing(base_url=server.url + "/v1", api_key="k")) as client:
        CHAT.call(client, False)
    assert (metered.call.tokens, metered.call.retries) == (CHAT.tokens, [])


def test_an_abandoned_call_may_be_closed_from_another_context(metered: Metered) -> None:
    """The garbage collector and event loops that end close it from any."""

    class Forever:
        def __await__(self) -> Generator[None]:
            yield

    async def request() -> None:
        await Forever()

    meter = Meter(endpoint=Endpoint("openai", is_known=True), model="gpt-4o", reader=ChatReader)
    call = ametered(request, lambda: meter)()
    contextvars.copy_context().run(call.send, None)
    call.close()
    assert metered.call.error == "cancelled"
    assert current.get() is None


def test_a_stream_that_a_mock_stands_in_for_is_read_as_usual(metered: Metered) -> None:
    """A mock with a specification passes for its class in `isinstance`, but is not an instance of it."""
    stream = mock.MagicMock(spec=httpx2.SyncByteStream)
    chunk = {"candidates": [{"content": {"parts": [{"text": "Hi"}], "role": "model"}}]}
    stream.__iter__.return_value = [b"data: ", dump(chunk), b"\n\n"]
    client = llm_exporter.instrument(genai.Client(api_key="key"))
    if not isinstance(client._api_client._httpx_client, httpx2.Client):
        pytest.skip("this release of google-genai uses httpx")
    with mock.patch.object(httpx2.Client, "send", return_value=httpx2.Response(200, stream=stream)):
        (received,) = client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello")
    assert received.text == "Hi"
    assert metered.call.model == "gemini-2.5-flash"
