"""Headers of a request label the LLM calls that a WSGI application makes for it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.util import FileWrapper, setup_testing_defaults

import httpx
import pytest
from openai import OpenAI

import llm_exporter
from llm_exporter.wsgi import LabelsMiddleware
from support.metered import Metered
from support.operations import CHAT, Operation
from support.scripted import Server

HEADERS = {"HTTP_X_LLM_AGENT": "writer", "HTTP_X_LLM_PHASE": "draft"}


@pytest.fixture(autouse=True)
def _everything_is_metered(metered: Metered) -> None:
    llm_exporter.instrument()


@pytest.fixture
def client(server: Server) -> Iterator[OpenAI]:
    server.respond_with("/chat/completions", Operation(CHAT, "sync", stream=False).response())
    with OpenAI(base_url=f"{server.url}/v1", api_key="k") as client:
        yield client


def call(client: OpenAI) -> bytes:
    return client.chat.completions.create(model="gpt-4o", messages=[]).model.encode()


def body_of(app: Any, headers: dict[str, Any]) -> Any:
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    return LabelsMiddleware(app)(environ | headers, lambda status, headers: None)


def test_headers_label_the_calls_of_their_request(client: OpenAI, metered: Metered) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        return [call(client)]

    for headers in (HEADERS, {}):
        assert body_of(app, headers) == [b"gpt-4o-2024-08-06"]
    assert [call.labels for call in metered.calls] == [{"agent": "writer", "phase": "draft"}, {}]


def test_a_body_is_generated_under_the_labels_of_its_request(client: OpenAI, metered: Metered) -> None:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            call(client)
            yield b"begin "
            yield call(client)

        def close(self) -> None:
            call(client)

    body = body_of(lambda environ, start_response: Body(), HEADERS)
    pieces = iter(body)
    next(pieces)
    call(client)  # by the server, or whoever iterates
    assert list(pieces) == [b"gpt-4o-2024-08-06"]
    body.close()
    assert [call.agent for call in metered.calls] == ["writer", "unattributed", "writer", "writer"]


def test_requests_beside_one_another_have_their_own_labels(client: OpenAI, metered: Metered) -> None:
    """A real server, which generates the bodies of four requests at the same time."""
    together = Barrier(4)

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        together.wait(60)
        yield b"begin "
        yield call(client)

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    def serve(server: Any) -> None:
        server.handle_request()

    servers = [make_server("127.0.0.1", 0, LabelsMiddleware(app), handler_class=Quiet) for _ in range(4)]
    threads = [Thread(target=serve, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    with ThreadPoolExecutor() as pool:
        urls = [f"http://127.0.0.1:{server.server_port}" for server in servers]
        agents = [{"x-llm-agent": f"agent-{n}"} for n in range(4)]
        answers = list(pool.map(lambda url, headers: httpx.get(url, headers=headers).text, urls, agents))
    for thread, server in zip(threads, servers, strict=True):
        thread.join()
        server.server_close()
    assert answers == ["begin gpt-4o-2024-08-06"] * 4
    assert sorted(call.agent for call in metered.calls) == [f"agent-{n}" for n in range(4)]


@pytest.mark.parametrize(
    "body", [[b"a"], (b"a",), FileWrapper(io.BytesIO(b"a"))], ids=["list", "tuple", "file"]
)
def test_a_body_that_is_not_generated_is_passed_on_as_it_is(body: Iterable[bytes]) -> None:
    assert (
        body_of(lambda environ, start_response: body, {**HEADERS, "wsgi.file_wrapper": FileWrapper}) is body
    )


def test_a_file_wrapper_that_is_a_function_harms_nothing() -> None:
    headers = {**HEADERS, "wsgi.file_wrapper": lambda file: file}
    assert list(body_of(lambda environ, start_response: iter([b"a"]), headers)) == [b"a"]


def test_the_end_of_a_body_is_its_own(client: OpenAI) -> None:
    closed = []

    class Broken:
        def __iter__(self) -> Iterator[bytes]:
            yield b"a"
            raise RuntimeError("broken")

        def close(self) -> None:
            closed.append(True)

    body = body_of(lambda environ, start_response: Broken(), HEADERS)
    with pytest.raises(RuntimeError, match="broken"):
        list(body)
    body.close()
    assert closed == [True]
    body_of(lambda environ, start_response: iter([b"a"]), HEADERS).close()  # it has no `close`


def test_headers_can_be_named_for_any_label(client: OpenAI, metered: Metered) -> None:
    app = LabelsMiddleware(lambda environ, start_response: [call(client)], headers={"X-Team": "team"})
    environ = {**HEADERS, "HTTP_X_TEAM": "Jür\x85gen".encode().decode("latin-1")}
    app(environ, None)
    assert metered.call.labels == {"team": "Jür?gen"}
