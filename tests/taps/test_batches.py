"""The results of batches are calls at batch rates when they are retrieved. Prices are those of 2026-11."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

import llm_exporter
from support import payloads
from support.metered import Metered
from support.operations import ANTHROPIC, GOOGLE
from support.payloads import dump, grounded, image_usage
from support.scripted import Response, Server


def _batch_line(number: int, body: dict[str, Any], status: int = 200) -> bytes:
    answer = {"status_code": status, "request_id": "r", "body": body}
    return dump({"id": f"batch_req_{number}", "custom_id": str(number), "response": answer, "error": None})


def test_results_of_an_openai_batch_are_counted_once_at_batch_rates(server: Server, metered: Metered) -> None:
    """gpt-4o in a batch: $1.25 and $5 a million tokens; text-embedding-3-small has no batch rate."""
    chat = {
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "usage": {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100},
    }
    failed = {"error": {"message": "no"}}
    lines = [_batch_line(1, chat), _batch_line(2, failed, 400), _batch_line(3, chat)]
    content = Response(b"\n".join(lines), content_type="application/octet-stream")
    server.respond_with("/content", content)
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        for _ in range(2):
            assert client.files.content("file-1").read() == content.body
    assert [call.tokens for call in metered.calls] == [{"input": 2000, "output": 100}] * 2
    assert [call.cost for call in metered.calls] == [{"input": 0.0025, "output": 0.0005}] * 2
    assert {(call.operation, call.batch, call.model) for call in metered.calls} == {
        ("chat", True, "gpt-4o-2024-08-06")
    }
    assert metered.samples("llm_calls_in_flight") == {}


def test_images_in_a_batch_are_sub_calls_at_batch_rates(server: Server, metered: Metered) -> None:
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    body = {
        **payloads._response("completed", used, "gpt-5-2025-08-07"),
        "tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}],
        "tool_usage": {"image_gen": image_usage(100, 400, 1000)},
    }
    server.respond_with("/content", Response(_batch_line(1, body), content_type="application/octet-stream"))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.files.content("file-1").read()
    assert [(call.operation, call.model, call.batch) for call in metered.calls] == [
        ("chat", "gpt-5-2025-08-07", True),
        ("image_generation", "gpt-image-1-mini", True),
    ]


def test_another_openai_file_is_not_a_batch(server: Server, metered: Metered) -> None:
    server.respond_with(
        "/content", Response(b'{"usage": {"prompt_tokens": 5}}\n', content_type="application/octet-stream")
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.files.content("file-1").read()
    assert metered.calls == []


def test_results_of_a_message_batch_are_counted_once_at_batch_rates(server: Server, metered: Metered) -> None:
    """Claude Haiku 4.5 in a batch: $0.50 and $2.50 a million tokens."""
    usage = {"input_tokens": 1000, "output_tokens": 200}
    message = {**payloads._message(usage, "claude-haiku-4-5"), "content": []}
    lines = [
        dump({"custom_id": "a", "result": {"type": "succeeded", "message": message}}),
        dump({"custom_id": "b", "result": {"type": "expired"}}),
    ]
    server.respond_with("/results", Response(b"\n".join(lines), content_type="application/x-jsonl"))
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "results_url": server.url + "/v1/messages/batches/msgbatch_1/results",
        "request_counts": {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 1},
        "created_at": "2026-11-02T12:00:00Z",
        "expires_at": "2026-11-03T12:00:00Z",
    }
    server.respond_with("/msgbatch_1", Response(dump(batch)))
    with llm_exporter.instrument(ANTHROPIC["sync"](server.url)) as client:
        for _ in range(2):
            assert len(list(client.messages.batches.results("msgbatch_1"))) == 2
    call = metered.call
    assert (call.tokens, call.batch) == ({"input": 1000, "output": 200}, True)
    assert call.cost == {"input": 0.0005, "output": 0.0005}


def _gemini_job(state: str, **output: Any) -> dict[str, Any]:
    """Return a batch job of the Gemini API, which has its results twice."""
    metadata = {"model": "models/gemini-2.5-flash", "state": f"BATCH_STATE_{state}", "output": output}
    return {"name": "batches/b1", "metadata": metadata, "done": state != "RUNNING", "response": output}


@pytest.mark.parametrize("kind", ["sync", "async aiohttp"])
def test_results_inside_a_gemini_batch_are_counted_once_at_batch_rates(
    kind: str, server: Server, metered: Metered
) -> None:
    """gemini-2.5-flash in a batch: $0.15 and $1.25 a million tokens."""
    results = [
        {"response": grounded("gemini-2.5-flash")},
        {"error": {"code": 3, "message": "no"}},
        {"response": {**grounded(""), "modelVersion": None}},
    ]
    server.respond_with(
        "/batches/b1",
        Response(dump(_gemini_job("RUNNING", inlinedResponses={"inlinedResponses": results[:1]}))),
        Response(dump(_gemini_job("SUCCEEDED", inlinedResponses={"inlinedResponses": results}))),
    )
    client = llm_exporter.instrument(GOOGLE[kind](server.url))

    async def poll() -> None:
        async with client.aio:
            for _ in range(3):
                await client.aio.batches.get(name="batches/b1")

    if kind == "sync":
        with client:
            for _ in range(3):
                client.batches.get(name="batches/b1")
    else:
        asyncio.run(poll())
    assert [call.tokens for call in metered.calls] == [{"input": 1000, "output": 100}] * 2
    assert [call.cost for call in metered.calls] == [{"input": 0.00015, "output": 0.000125}] * 2
    assert {(call.operation, call.batch, call.model) for call in metered.calls} == {
        ("generate_content", True, "gemini-2.5-flash")
    }
    assert metered.samples("llm_calls_in_flight") == {}


@pytest.mark.parametrize(
    "answer",
    [
        {"embedding": {"values": [0.5]}, "tokenCount": "5000"},
        {"embedding": {"values": [0.5]}, "tokenCount": 5000},
        {"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 5000}},
    ],
    ids=["a count in a string", "a count", "usage"],
)
def test_embeddings_inside_a_gemini_batch_are_calls_at_batch_rates(
    answer: dict[str, Any], server: Server, metered: Metered
) -> None:
    """gemini-embedding-2 in a batch: $0.10 a million tokens."""
    job = _gemini_job("SUCCEEDED", inlinedResponses={"inlinedResponses": [{"response": answer}]})
    job["metadata"]["model"] = "models/gemini-embedding-2"
    server.respond_with("/batches/b1", Response(dump(job)))
    with llm_exporter.instrument(GOOGLE["sync"](server.url)) as client:
        client.batches.get(name="batches/b1")
    call = metered.call
    assert (call.operation, call.batch, call.model) == ("embeddings", True, "gemini-embedding-2")
    assert (call.tokens, call.cost) == ({"input": 5000}, {"input": 0.0005})


@pytest.mark.parametrize("kind", ["sync", "sync httpx", "async aiohttp", "async httpx"])
def test_results_in_a_gemini_file_are_counted_once_at_batch_rates(
    kind: str, server: Server, metered: Metered
) -> None:
    """gemini-2.5-flash in a batch: $0.15 and $1.25 a million tokens."""
    lines = [
        dump({"key": "a", "response": grounded("gemini-2.5-flash")}),
        dump({"key": "b", "error": {"code": 3}}),
        dump({"key": "c", "response": grounded("gemini-2.5-flash")}),
    ]
    content = Response(b"\n".join(lines), content_type="application/octet-stream")
    server.respond_with(":download", content)
    client = llm_exporter.instrument(GOOGLE[kind](server.url))

    async def download() -> list[bytes]:
        async with client.aio:
            return [await client.aio.files.download(file="files/batch-b1") for _ in range(2)]

    if kind.startswith("sync"):
        with client:
            files = [client.files.download(file="files/batch-b1") for _ in range(2)]
    else:
        files = asyncio.run(download())
    assert files == [content.body] * 2
    assert [call.cost for call in metered.calls] == [{"input": 0.00015, "output": 0.000125}] * 2
    assert {(call.operation, call.batch, call.model) for call in metered.calls} == {
        ("generate_content", True, "gemini-2.5-flash")
    }


def test_another_gemini_file_is_not_a_batch(server: Server, metered: Metered) -> None:
    server.respond_with(":download", Response(b"\x00\x00\x00\x18ftypmp42", content_type="video/mp4"))
    with llm_exporter.instrument(GOOGLE["sync"](server.url)) as client:
        assert client.files.download(file="files/v1") == b"\x00\x00\x00\x18ftypmp42"
    assert metered.calls == []
