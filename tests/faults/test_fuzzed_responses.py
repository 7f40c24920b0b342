"""Damaged responses of providers: the caller gets exactly what it gets without llm-exporter.

The damage is random, but the same in each run.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import types

import llm_exporter
from faults.conftest import Record
from faults.damage import damaged
from llm_exporter import Call
from llm_exporter.client.pipeline import Pipeline
from support.operations import CHAT, GEMINI, MESSAGES, RESPONSES, Format
from support.samples import SAMPLES
from support.scripted import Response

RESPONSES_EACH = 1250
FORMATS = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES, "gemini": GEMINI}
CONTENT_TYPES = (
    "application/json",
    "text/event-stream",
    "text/plain",
    "",
    "application/vnd.amazon.eventstream",
)


class Broken(httpx2.SyncByteStream):
    """A body that arrives in pieces, and whose connection may break at the end."""

    def __init__(self, pieces: list[bytes], *, breaks: bool) -> None:
        self._pieces = pieces
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks:
            raise httpx2.ReadError("the connection broke")


def answer(chance: random.Random, valid: Response, others: list[bytes]) -> Callable[[], httpx2.Response]:
    """Return a function that makes a damaged response, which is the same each time."""
    body = valid.body if isinstance(valid.body, bytes) else b"".join(valid.body)
    body = damaged(chance, body, others)
    headers = {"content-type": valid.content_type if chance.random() < 0.9 else chance.choice(CONTENT_TYPES)}
    if chance.random() < 0.1:
        headers["content-encoding"] = "gzip"
        body = gzip.compress(body, mtime=0) if chance.random() < 0.8 else body
    size = chance.choice((1, 7, 100, 10_000)) if len(body) < 5000 else 10_000
    pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
    breaks = chance.random() < 0.1
    status = 200 if chance.random() < 0.9 else chance.choice((400, 404, 429, 500, 503))
    return lambda: httpx2.Response(status, headers=headers, stream=Broken(pieces, breaks=breaks))


def client_of(wire: Format, respond: Callable[[httpx2.Request], httpx2.Response]) -> Any:
    transport = httpx2.MockTransport(respond)
    if wire is GEMINI:
        http = types.HttpOptions(base_url="http://127.0.0.1", client_args={"transport": transport})
        return genai.Client(api_key="k", vertexai=False, http_options=http)
    http_client = httpx2.Client(transport=transport)
    if wire is MESSAGES:
        return anthropic.Anthropic(api_key="k", max_retries=0, http_client=http_client)
    return openai.OpenAI(base_url="http://127.0.0.1/v1", api_key="k", max_retries=0, http_client=http_client)


def received(wire: Format, client: Any, *, stream: bool) -> list[str]:
    """Make a call, and return all that the caller gets: objects, and the exception at the end."""
    got: list[str] = []
    try:
        result = wire.call(client, stream)
        if stream:
            got.extend(repr(each) for each in result)
        else:
            got.append(repr(result))
    except Exception as error:
        got.append(f"{type(error)}: {error}")
    return got


@pytest.mark.parametrize("stream", [False, True], ids=["bodies", "streams"])
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_responses(name: str, stream: bool, pipeline: Pipeline, record: Record) -> None:
    wire = FORMATS[name]
    others = [sample.data for sample in SAMPLES]
    chance = random.Random(f"{name} {stream}")  # noqa: S311
    prepared: list[Callable[[], httpx2.Response]] = []
    seen: list[Call] = []
    pipeline.subscribe(seen.append)
    plain = client_of(wire, lambda _: prepared[-1]())
    metered = llm_exporter.instrument(client_of(wire, lambda _: prepared[-1]()))
    made = []
    for number in range(RESPONSES_EACH):
        prepared.append(answer(chance, wire.responses[stream](), others))
        with llm_exporter.labels(session=str(number)):
            assert received(wire, metered, stream=stream) == received(wire, plain, stream=stream), number
        made.append(str(number))
    assert pipeline.flush(60)
    assert record(
        f"the provider's {name} {'streams' if stream else 'bodies'} are damaged",
        "bytes changed, cut out, repeated, inserted; wrong types, encodings and statuses; broken connections",
        made,
        [call.labels["session"] for call in seen],
        seen="`llm_usage_missing_total`, `llm_call_errors_total`",
    ) == (0, 0)
