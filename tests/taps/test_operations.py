"""Tokens and USD by type of every operation that costs money, called through the SDK's own method.

Prices are those of 2026-11 a million tokens unless said otherwise: https://platform.openai.com/docs/pricing,
https://ai.google.dev/pricing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types

import llm_exporter
from llm_exporter.call import TokenType
from support import payloads
from support.metered import Metered
from support.operations import ANTHROPIC, GOOGLE, OPENAI, PROMPT, require, vertex
from support.payloads import INTERACTION, STREAM, dump, grounded, image_usage
from support.scripted import Response, Server, sse

WAV = ("a.wav", b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav")
PNG = ("a.png", b"\x89PNG\r\n\x1a\n", "image/png")


@dataclass(frozen=True)
class Row:
    """One operation."""

    name: str
    clients: dict[str, Callable[[str], Any]]
    path: str
    call: Callable[[Any], Any]
    """Makes the call; given an async client, returns something to await."""
    answer: Response
    operation: str
    tokens: dict[TokenType, int]
    cost: dict[str, float]
    stream: bool = False

    def __str__(self) -> str:
        return self.name


def embedding(model: str, usage: dict[str, int]) -> Response:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    return Response(dump({"object": "list", "model": model, "data": data, "usage": usage}))


GOOGLES = {"sync": GOOGLE["sync"], "async": GOOGLE["async aiohttp"]}


SEARCHED = {"type": "google_search_call", "id": "c1", "arguments": {"queries": ["a", "b"]}}


ROWS = [
    Row(
        # gpt-3.5-turbo-instruct: 1.50 and 2.00
        "completions",
        OPENAI,
        "/completions",
        lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Say"),
        Response(
            dump(
                {
                    "id": "cmpl-1",
                    "object": "text_completion",
                    "created": 1,
                    "model": "gpt-3.5-turbo-instruct",
                    "choices": [{"index": 0, "text": "x", "finish_reason": "stop", "logprobs": None}],
                    "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
                }
            )
        ),
        "text_completion",
        {"input": 1000, "output": 500},
        {"input": 0.0015, "output": 0.001},
    ),
    Row(
        # 2.50 and 10, and $25 for a thousand searches
        "a search model",
        OPENAI,
        "/chat/completions",
        lambda client: client.chat.completions.create(model="gpt-4o-search-preview", messages=PROMPT),
        payloads.chat(
            {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
            model="gpt-4o-search-preview-2025-03-11",
        ),
        "chat",
        {"input": 1000, "output": 100},
        {"input": 0.0025, "output": 0.001, "tools": 0.025},
    ),
    Row(
        # gpt-4o: 2.50 and 10, $25 for a thousand searches with the preview, and $0.03 for a container
        "a response with tools that have fees",
        OPENAI,
        "/responses",
        lambda client: client.responses.create(model="gpt-4o", input="x"),
        Response(
            dump(
                {
                    **payloads._response(
                        "completed",
                        {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
                        "gpt-4o-2024-08-06",
                    ),
                    "output": [
                        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
                        {
                            "type": "code_interpreter_call",
                            "id": "ci_1",
                            "container_id": "cntr_1",
                            "status": "completed",
                        },
                    ],
                    "tools": [
                        {"type": "web_search_preview"},
                        {"type": "code_interpreter", "container": {"type": "auto"}},
                    ],
                }
            )
        ),
        "chat",
        {"input": 1000, "output": 100},
        {"input": 0.0025, "output": 0.001, "tools": 0.055},
    ),
    Row(
        # gpt-6-luna: 0.10, cached 0.01, written to the cache 0.125, and 0.50
        "decisions",
        OPENAI,
        "/decisions",
        lambda client: require(client, "decisions.create")(
            model="gpt-6-luna", input="x", questions=[{"type": "predicate", "instructions": "Is it x?"}]
        ),
        Response(
            dump(
                {
                    "model": "gpt-6-luna",
                    "answers": [{"type": "predicate", "name": None, "probability": 0.9}],
                    "usage": {
                        "input_tokens": 3000,
                        "input_tokens_details": {"cached_tokens": 1000, "cache_write_tokens": 500},
                        "output_tokens": 100,
                        "output_tokens_details": {"reasoning_tokens": 0},
                        "total_tokens": 3100,
                    },
                }
            )
        ),
        "decision",
        {"input": 1500, "cache_read": 1000, "cache_write": 500, "output": 100},
        {"input": 0.00015, "cache_read": 0.00001, "cache_write": 0.0000625, "output": 0.00005},
    ),
    Row(
        # 0.02
        "embeddings",
        OPENAI,
        "/embeddings",
        lambda client: client.embeddings.create(
            model="text-embedding-3-small", input="x", encoding_format="float"
        ),
        embedding("text-embedding-3-small", {"prompt_tokens": 50_000, "total_tokens": 50_000}),
        "embeddings",
        {"input": 50_000},
        {"input": 0.001},
    ),
    Row(
        # text in 5, image out 40
        "image generation",
        OPENAI,
        "/images/generations",
        lambda client: client.images.generate(model="gpt-image-1", prompt="a cat"),
        Response(dump({"created": 1, "data": [{"b64_json": "aa"}], "usage": image_usage(20, 0, 4000)})),
        "image_generation",
        {"input": 20, "output_image": 4000},
        {"input": 0.0001, "output_image": 0.16},
    ),
    Row(
        # text in 5, image in 10, image out 40
        "image edit",
        OPENAI,
        "/images/edits",
        lambda client: client.images.edit(model="gpt-image-1", prompt="a cat", image=PNG),
        Response(dump({"created": 1, "data": [{"b64_json": "aa"}], "usage": image_usage(20, 300, 1000)})),
        "image_generation",
        {"input": 20, "input_image": 300, "output_image": 1000},
        {"input": 0.0001, "input_image": 0.003, "output_image": 0.04},
    ),
    Row(
        # text in 2.50, audio in 6, out 10
        "transcription by token",
        OPENAI,
        "/audio/transcriptions",
        lambda client: client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV),
        Response(
            dump(
                {
                    "text": "Seven.",
                    "usage": {
                        "type": "tokens",
                        "input_tokens": 120,
                        "input_token_details": {"text_tokens": 20, "audio_tokens": 100},
                        "output_tokens": 30,
                        "total_tokens": 150,
                    },
                }
            )
        ),
        "transcription",
        {"input": 20, "input_audio": 100, "output": 30},
        {"input": 0.00005, "input_audio": 0.0006, "output": 0.0003},
    ),
    Row(
        # $0.006 a minute
        "transcription by length",
        OPENAI,
        "/audio/transcriptions",
        lambda client: client.audio.transcriptions.create(model="whisper-1", file=WAV),
        Response(dump({"text": "Seven.", "usage": {"type": "duration", "seconds": 90}})),
        "transcription",
        {},
        {"input_audio": 0.009},
    ),
    Row(
        # $0.006 a minute
        "translation, verbose",
        OPENAI,
        "/audio/translations",
        lambda client: client.audio.translations.create(
            model="whisper-1", file=WAV, response_format="verbose_json"
        ),
        Response(dump({"text": "Seven.", "language": "english", "duration": "30.0", "segments": []})),
        "translation",
        {},
        {"input_audio": 0.003},
    ),
    Row(
        # $15 a million characters, of which there are 200
        "speech",
        OPENAI,
        "/audio/speech",
        lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="x" * 200),
        Response(b"\x00\x01", content_type="audio/mpeg"),
        "speech",
        {},
        {"input": 0.003},
    ),
    Row(
        "moderation",
        OPENAI,
        "/moderations",
        lambda client: client.moderations.create(input="x"),
        Response(dump({"id": "modr-1", "model": "omni-moderation-latest", "results": []})),
        "moderation",
        {},
        {},
    ),
    Row(
        "token count of a message",
        ANTHROPIC,
        "/v1/messages/count_tokens",
        lambda client: client.messages.count_tokens(model="claude-sonnet-5", messages=PROMPT),
        Response(dump({"input_tokens": 4096})),
        "count_tokens",
        {},
        {},
    ),
    Row(
        # gpt-5: 1.25 and 10
        "compaction",
        OPENAI,
        "/responses/compact",
        lambda client: require(client, "responses.compact")(model="gpt-5", input="x"),
        Response(
            dump(
                {
                    "id": "cmp_1",
                    "object": "response.compaction",
                    "created_at": 1,
                    "output": [],
                    "usage": {
                        "input_tokens": 800,
                        "input_tokens_details": {"cached_tokens": 0},
                        "output_tokens": 200,
                        "output_tokens_details": {"reasoning_tokens": 0},
                        "total_tokens": 1000,
                    },
                }
            )
        ),
        "chat",
        {"input": 800, "output": 200},
        {"input": 0.001, "output": 0.002},
    ),
    Row(
        # 0.15
        "Gemini embeddings",
        GOOGLES,
        ":batchEmbedContents",
        lambda client: client.models.embed_content(model="gemini-embedding-001", contents="x"),
        Response(
            dump(
                {
                    "embeddings": [{"values": [0.5]}],
                    "usageMetadata": {
                        "promptTokenCount": 2000,
                        "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 2000}],
                    },
                }
            )
        ),
        "embeddings",
        {"input": 2000},
        {"input": 0.0003},
    ),
    Row(
        # gemini-2.5-flash: 0.30, cached 0.03, out 2.50; 400 - 100 cached + 20 for the tools
        "interactions",
        GOOGLES,
        "/interactions",
        lambda client: require(client, "interactions.create")(model="gemini-2.5-flash", input="x"),
        Response(dump(INTERACTION)),
        "generate_content",
        {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40},
        {"input": 0.000096, "cache_read": 0.000003, "output": 0.00015, "reasoning": 0.0001},
    ),
    Row(
        "interactions stream",
        GOOGLES,
        "/interactions",
        lambda client: require(client, "interactions.create")(
            model="gemini-2.5-flash", input="x", stream=True
        ),
        Response(
            sse(
                '{"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "new"}}',
                '{"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Seven."}}',
                dump({"event_type": "interaction.completed", "interaction": INTERACTION}).decode(),
            ),
            content_type=STREAM,
        ),
        "generate_content",
        {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40},
        {"input": 0.000096, "cache_read": 0.000003, "output": 0.00015, "reasoning": 0.0001},
        stream=True,
    ),
    Row(
        # gemini-2.5-flash: 0.30 and 2.50; $35 for 1000 prompts that were grounded
        "grounding by prompt",
        GOOGLES,
        ":generateContent",
        lambda client: client.models.generate_content(model="gemini-2.5-flash", contents="x"),
        Response(dump(grounded("gemini-2.5-flash", "a", "b"))),
        "generate_content",
        {"input": 1000, "output": 100},
        {"input": 0.0003, "output": 0.00025, "tools": 0.035},
    ),
    Row(
        # gemini-3-flash-preview: 0.50 and 3; $14 for 1000 queries
        "grounding by query, streamed",
        GOOGLES,
        ":streamGenerateContent",
        lambda client: client.models.generate_content_stream(model="gemini-3-flash-preview", contents="x"),
        Response(
            sse(
                dump(grounded("gemini-3-flash-preview")).decode(),
                dump(grounded("gemini-3-flash-preview", "a", "")).decode(),
                dump(grounded("gemini-3-flash-preview", "a", "b")).decode(),
            ),
            content_type=STREAM,
        ),
        "generate_content",
        {"input": 1000, "output": 100},
        {"input": 0.0005, "output": 0.0003, "tools": 0.028},
        stream=True,
    ),
    Row(
        # as "interactions"; $35 for 1000 prompts that were grounded
        "grounded interactions",
        GOOGLES,
        "/interactions",
        lambda client: require(client, "interactions.create")(model="gemini-2.5-flash", input="x"),
        Response(dump({**INTERACTION, "steps": [SEARCHED, *INTERACTION["steps"]]})),
        "generate_content",
        {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40},
        {"input": 0.000096, "cache_read": 0.000003, "output": 0.00015, "reasoning": 0.0001, "tools": 0.035},
    ),
    Row(
        # gemini-3-flash-preview: 0.50, cached 0.05, out 3; $14 for 1000 queries
        "grounded interactions stream",
        GOOGLES,
        "/interactions",
        lambda client: require(client, "interactions.create")(
            model="gemini-3-flash-preview", input="x", stream=True
        ),
        Response(
            sse(
                '{"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "new"}}',
                '{"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Seven."}}',
                dump(
                    {
                        "event_type": "step.start",
                        "index": 1,
                        "step": {**SEARCHED, "arguments": {"queries": ["", "c"]}},
                    }
                ).decode(),
                dump({"event_type": "step.delta", "index": 1, "delta": SEARCHED}).decode(),
                dump(
                    {
                        "event_type": "interaction.completed",
                        "interaction": {**INTERACTION, "steps": None, "model": "gemini-3-flash-preview"},
                    }
                ).decode(),
            ),
            content_type=STREAM,
        ),
        "generate_content",
        {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40},
        {"input": 0.00016, "cache_read": 0.000005, "output": 0.00018, "reasoning": 0.00012, "tools": 0.042},
        stream=True,
    ),
    Row(
        # gemini-3-flash-preview; three queries to Google Search and two to Google Maps at $14 for 1000
        "interactions that only count their searches",
        GOOGLES,
        "/interactions",
        lambda client: require(client, "interactions.create")(model="gemini-3-flash-preview", input="x"),
        Response(
            dump(
                {
                    **INTERACTION,
                    "model": "gemini-3-flash-preview",
                    "usage": {
                        "total_input_tokens": 400,
                        "grounding_tool_count": [
                            {"type": "google_maps", "count": 2},
                            {"type": "google_search", "count": 3},
                        ],
                    },
                }
            )
        ),
        "generate_content",
        {"input": 400},
        {"input": 0.0002, "tools": 0.07},
    ),
    Row(
        # gemini-2.5-flash: a write costs what input does, 0.30
        "cached content",
        GOOGLES,
        "/cachedContents",
        lambda client: client.caches.create(
            model="gemini-2.5-flash", config=types.CreateCachedContentConfig(contents="x")
        ),
        Response(
            dump(
                {
                    "name": "cachedContents/c1",
                    "model": "models/gemini-2.5-flash",
                    "usageMetadata": {"totalTokenCount": 5000},
                }
            )
        ),
        "cached_content",
        {"cache_write": 5000},
        {"cache_write": 0.0015},
    ),
]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's translations
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_an_operation_is_one_call_with_its_tokens_and_cost_by_type(
    row: Row, kind: str, server: Server, metered: Metered
) -> None:
    server.respond_with(row.path, row.answer)
    client = llm_exporter.instrument(row.clients[kind](server.url))
    if kind == "sync":
        with client:
            result = row.call(client)
            _ = list(result) if row.stream else result
    else:
        asyncio.run(_run(row, client))
    call = metered.call
    assert (call.operation, call.tokens, call.cost) == (row.operation, row.tokens, row.cost)
    assert (call.error, call.usage_reported, call.unpriced_tokens) == (None, True, 0)


async def _run(row: Row, client: Any) -> None:
    async with client.aio if isinstance(client, genai.Client) else client as opened:
        result = await row.call(opened)
        if row.stream:
            async for _ in result:
                pass


def test_a_vertex_embedding_counts_each_prediction(server: Server, metered: Metered) -> None:
    predictions = [
        {"embeddings": {"values": [0.5], "statistics": {"token_count": number}}} for number in (7, 5)
    ]
    server.respond_with(":predict", Response(dump({"predictions": predictions})))
    with llm_exporter.instrument(vertex(server.url)) as client:
        client.models.embed_content(model="text-embedding-005", contents=["x", "y"])
    assert (metered.call.operation, metered.call.tokens) == ("embeddings", {"input": 12})


def test_a_streamed_transcription_has_the_usage_of_its_last_event(server: Server, metered: Metered) -> None:
    usage = '{"type": "tokens", "input_tokens": 100, "output_tokens": 30, "total_tokens": 130}'
    server.respond_with(
        "/audio/transcriptions",
        Response(
            sse(
                '{"type": "transcript.text.delta", "delta": "Seven."}',
                '{"type": "transcript.text.done", "text": "Seven.", "usage": ' + usage + "}",
            ),
            content_type=STREAM,
        ),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        assert (
            len(list(client.audio.transcriptions.create(model="gpt-4o-transcribe", file=WAV, stream=True)))
            == 2
        )
    assert metered.call.tokens == {"input": 100, "output": 30}
    assert metered.call.model == "gpt-4o-transcribe"


def test_speech_without_usage_is_counted_as_missing_usage(server: Server, metered: Metered) -> None:
    server.respond_with("/audio/speech", Response(b"\x00\x01", content_type="audio/mpeg"))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="x").read()
    assert metered.call.usage_reported is False


def test_a_cost_in_the_response_is_the_cost_of_the_call(
    server: Server, metered: Metered, tmp_path: Path
) -> None:
    config = tmp_path / "llm-exporter.yml"
    config.write_text(f"providers: {{'{server.url.removeprefix('http://')}': openrouter}}\n")
    llm_exporter.configure(config)
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": 0.0105}
    server.respond_with("/chat/completions", payloads.chat(usage, model="openai/gpt-4o"))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.chat.completions.create(model="openai/gpt-4o", messages=[])
    assert metered.call.total_cost == pytest.approx(0.0105)
    assert metered.call.cost_source == "provider"
