"""Tokens and USD by type of every operation that costs money, called through the SDK's own method.

Prices are those of 2026-11 a million tokens unless said otherwise: https://platform.openai.com/docs/pricing,
https://ai.google.dev/pricing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import openai
import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

import llm_exporter
from llm_exporter.call import TokenType
from support import payloads
from support.metered import Metered
from support.operations import ANTHROPIC, GOOGLE, OPENAI, PROMPT
from support.payloads import STREAM, dump
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


def require(client: Any, method: str) -> Any:
    """Return a client's resource or method; skip the test if this release of the SDK does not have it."""
    try:
        return attrgetter(method)(client)
    except AttributeError:
        pytest.skip(f"this release of the SDK has no {method}")


def embedding(model: str, usage: dict[str, int]) -> Response:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}]
    return Response(dump({"object": "list", "model": model, "data": data, "usage": usage}))


def image_usage(text: int, image: int, generated: int) -> dict[str, Any]:
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": generated,
        "total_tokens": text + image + generated,
    }


GOOGLES = {"sync": GOOGLE["sync"], "async": GOOGLE["async aiohttp"]}
INTERACTION: dict[str, Any] = {
    "id": "v1_a",
    "object": "interaction",
    "status": "completed",
    "model": "gemini-2.5-flash",
    "steps": [{"type": "model_output", "content": [{"type": "text", "text": "Seven."}]}],
    "usage": {
        "total_input_tokens": 400,
        "total_cached_tokens": 100,
        "total_output_tokens": 60,
        "total_thought_tokens": 40,
        "total_tool_use_tokens": 20,
        "total_tokens": 520,
    },
}

SEARCHED = {"type": "google_search_call", "id": "c1", "arguments": {"queries": ["a", "b"]}}


def grounded(model: str, *queries: str) -> dict[str, Any]:
    """Return a Gemini response that searched the web: 1000 input and 100 output tokens."""
    return {
        "candidates": [
            {
                "content": {"parts": [{"text": "Seven."}], "role": "model"},
                "groundingMetadata": {"webSearchQueries": queries},
            }
        ],
        "modelVersion": model,
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100},
    }


def vertex(url: str) -> genai.Client:
    """Return a client for Vertex AI at a URL."""
    return genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials(token="t"),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(base_url=url),
    )


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


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # older services still use it
@pytest.mark.parametrize("status", ["queued", "completed"])
def test_a_video_is_one_call_of_its_first_request_without_usage(
    status: str, server: Server, metered: Metered
) -> None:
    video = {"id": "video_1", "object": "video", "model": "sora-2", "status": status, "seconds": "8"}
    server.respond_with("/videos", Response(dump(video)))
    server.respond_with("/video_1", Response(dump({**video, "status": "completed"})))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        require(client, "videos.create")(prompt="x", model="sora-2", seconds="8")
        for _ in range(2):
            client.videos.retrieve("video_1")
    call = metered.call
    assert (call.operation, call.model, call.usage_reported) == ("video_generation", "sora-2", False)
    assert metered.total("llm_usage_missing_total", operation="video_generation") == 1


def test_google_videos_are_one_call_of_their_first_request_without_usage(
    server: Server, metered: Metered
) -> None:
    name = "projects/p/locations/us-central1/publishers/google/models/veo-t/operations/o1"
    server.respond_with(":predictLongRunning", Response(dump({"name": name})))
    server.respond_with(
        ":fetchPredictOperation", Response(dump({"name": name, "done": True, "response": {}}))
    )
    with llm_exporter.instrument(vertex(server.url)) as client:
        operation = client.models.generate_videos(model="veo-t", source={"prompt": "x"})
        client.operations.get(operation)
    call = metered.call
    assert (call.operation, call.model, call.usage_reported) == ("video_generation", "veo-t", False)


def test_images_in_a_response_are_priced_by_the_image_model(server: Server, metered: Metered) -> None:
    """gpt-image-1-mini: text in 2, image in 2.50, image out 8 a million tokens; also when it is retrieved."""
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    images = image_usage(100, 400, 1000)
    done = {
        **payloads._response("completed", used, "gpt-5-2025-08-07"),
        "tools": [{"type": "image_generation", "model": "gpt-image-1-mini"}],
        "tool_usage": {"image_gen": images, "web_search": {"num_requests": 0}},
    }
    server.respond_with("/resp_1", Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.retrieve("resp_1")
    response, image = metered.calls
    assert (response.model, response.tokens) == ("gpt-5-2025-08-07", {"input": 500, "output": 260})
    assert (image.model, image.operation, image.batch) == ("gpt-image-1-mini", "image_generation", False)
    assert image.cost == {"input": 0.0002, "input_image": 0.001, "output_image": 0.008}


def test_images_of_an_unnamed_model_have_no_price(server: Server, metered: Metered) -> None:
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    done = payloads._response("completed", used, "gpt-5-2025-08-07")
    server.respond_with(
        "/responses", Response(dump({**done, "tool_usage": {"image_gen": image_usage(100, 400, 1000)}}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.create(model="gpt-5", input="x")
    _, image = metered.calls
    assert (image.cost, image.unpriced_tokens) == ({}, 1500)


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


def test_a_background_response_is_one_call_of_its_first_request(server: Server, metered: Metered) -> None:
    usage = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    pending = {**payloads._response("queued", None, "o4-mini-2025-04-16"), "background": True}
    done = {**payloads._response("completed", usage, "o4-mini-2025-04-16"), "background": True}
    server.respond_with("/responses", Response(dump(pending)))
    server.respond_with("/resp_1", Response(dump(pending)), Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        with llm_exporter.labels(agent="planner"):
            client.responses.create(model="o4-mini", input="x", background=True)
        assert metered.calls == []
        assert metered.total("llm_calls_in_flight") == 0
        for status in ("queued", "completed", "completed"):
            assert client.responses.retrieve("resp_1").status == status
    call = metered.call
    assert (call.agent, call.requested_model) == ("planner", "o4-mini")
    assert (call.tokens, call.usage_reported) == ({"input": 500, "output": 260}, True)


def test_a_background_response_that_is_not_retrieved_is_counted_when_the_process_ends(
    server: Server, metered: Metered
) -> None:
    pending = {**payloads._response("queued", None, "o4-mini-2025-04-16"), "background": True}
    server.respond_with("/responses", Response(dump(pending)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.create(model="o4-mini", input="x", background=True)
    assert metered.calls == []
    metered.pipeline.close()
    assert (metered.call.model, metered.call.usage_reported) == ("o4-mini-2025-04-16", False)
    metered.pipeline.close()
    assert metered.total("llm_usage_missing_total", operation="chat") == 1


RUN_USAGE = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}


def _run_of_an_assistant(status: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    head = {
        "id": "run_1",
        "object": "thread.run",
        "created_at": 1,
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
    }
    return {
        **head,
        "status": status,
        "model": "gpt-4o-2024-08-06",
        "usage": usage,
        "instructions": "",
        "tools": [],
    }


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
def test_a_polled_run_of_an_assistant_is_one_call_of_its_first_request(
    server: Server, metered: Metered
) -> None:
    """gpt-4o: $2.50 and $10 a million tokens."""
    server.respond_with("/runs", Response(dump(_run_of_an_assistant("queued"))))
    server.respond_with(
        "/run_1",
        Response(dump(_run_of_an_assistant("in_progress"))),
        Response(dump(_run_of_an_assistant("completed", RUN_USAGE))),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        runs = require(client, "beta.threads.runs")
        with llm_exporter.labels(agent="planner"):
            runs.create("thread_1", assistant_id="asst_1")
        for status in ("in_progress", "completed", "completed"):
            assert runs.retrieve("run_1", thread_id="thread_1").status == status
    call = metered.call
    assert (call.agent, call.operation, call.model) == ("planner", "chat", "gpt-4o-2024-08-06")
    assert call.cost == {"input": 0.005, "output": 0.001}


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
def test_a_streamed_run_that_waits_for_a_tool_is_one_call(server: Server, metered: Metered) -> None:
    said = {
        "id": "msg_1",
        "object": "thread.message.delta",
        "delta": {"content": [{"index": 0, "type": "text", "text": {"value": "Seven."}}]},
    }

    def events(*data: dict[str, Any]) -> Response:
        lines = (f"event: {each['object']}\ndata: {dump(each).decode()}\n\n" for each in data)
        return Response("".join([*lines, "event: done\ndata: [DONE]\n\n"]).encode(), content_type=STREAM)

    server.respond_with(
        "/runs", events(_run_of_an_assistant("queued"), _run_of_an_assistant("requires_action"))
    )
    server.respond_with(
        "/submit_tool_outputs",
        events(_run_of_an_assistant("in_progress"), said, _run_of_an_assistant("completed", RUN_USAGE)),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        runs = require(client, "beta.threads.runs")
        assert list(runs.create("thread_1", assistant_id="asst_1", stream=True))
        assert metered.calls == []
        assert list(runs.submit_tool_outputs("run_1", thread_id="thread_1", tool_outputs=[], stream=True))
    assert metered.call.tokens == {"input": 2000, "output": 100}


def test_a_fine_tuning_job_is_counted_once_with_its_trained_tokens(server: Server, metered: Metered) -> None:
    job = {"id": "ftjob-1", "object": "fine_tuning.job", "model": "gpt-4.1-2025-04-14", "status": "running"}
    done = {**job, "status": "succeeded", "trained_tokens": 80_000}
    server.respond_with("/jobs", Response(dump(job)))
    server.respond_with("/ftjob-1", Response(dump(job)), Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.fine_tuning.jobs.create(model="gpt-4.1-2025-04-14", training_file="file-1")
        for _ in range(3):
            client.fine_tuning.jobs.retrieve("ftjob-1")
    call = metered.call
    assert (call.operation, call.model) == ("fine_tuning", "gpt-4.1-2025-04-14")
    assert (call.units, call.usage_reported) == ({"trained_tokens": 80_000}, True)


def test_a_session_of_an_agent_is_counted_as_its_tokens_are_added(server: Server, metered: Metered) -> None:
    """gpt-5 at the flex tier: $0.625 and $5 a million tokens."""
    session = {
        "id": "sess_1",
        "object": "agent.session",
        "status": "in_progress",
        "agent": {"id": "agent_1", "model": "gpt-5-2025-08-07", "service_tier": "flex"},
        "usage": None,
    }
    usage = {"input_tokens": 2000, "output_tokens": 100, "total_tokens": 2100}
    more = {"input_tokens": 3000, "output_tokens": 100, "total_tokens": 3100}
    server.respond_with("/sessions", Response(dump(session)))
    server.respond_with(
        "/sess_1",
        *(Response(dump({**session, "status": "idle", "usage": each})) for each in (usage, usage, more)),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        sessions = require(client, "beta.agents.sessions")
        with llm_exporter.labels(agent="planner"):
            sessions.create(environment={"id": "env_1"}, agent_id="agent_1", input="x")
        for _ in range(3):
            sessions.retrieve("sess_1")
    first, second = metered.calls
    assert (first.operation, first.model, first.agent) == ("invoke_agent", "gpt-5-2025-08-07", "planner")
    assert first.cost == {"input": 0.00125, "output": 0.0005}
    assert second.tokens == {"input": 1000}


def test_an_evaluation_is_counted_once_by_model(server: Server, metered: Metered) -> None:
    """gpt-4o: $2.50, $1.25 cached and $10 a million tokens."""
    run = {"id": "evalrun_1", "object": "eval.run", "eval_id": "eval_1", "status": "queued"}
    usage = {
        "model_name": "gpt-4o-2024-08-06",
        "invocation_count": 2,
        "prompt_tokens": 3000,
        "cached_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 3100,
    }
    server.respond_with("/runs", Response(dump(run)))
    server.respond_with(
        "/evalrun_1", Response(dump({**run, "status": "completed", "per_model_usage": [usage]}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        with llm_exporter.labels(agent="judge"):
            require(client, "evals.runs").create("eval_1", data_source={"type": "jsonl"})
        for _ in range(2):
            client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
    call = metered.call
    assert (call.agent, call.operation, call.model) == ("judge", "evaluation", "gpt-4o-2024-08-06")
    assert call.cost == {"input": 0.005, "cache_read": 0.00125, "output": 0.001}


def test_a_container_is_counted_once_however_many_responses_use_it(server: Server, metered: Metered) -> None:
    used = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    done = {
        **payloads._response("completed", used, "gpt-5-2025-08-07"),
        "output": [
            {
                "type": "code_interpreter_call",
                "id": f"ci_{number}",
                "container_id": "cntr_1",
                "status": "completed",
            }
            for number in range(2)
        ],
        "tools": [{"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}],
    }
    second = {**done, "id": "resp_2"}
    server.respond_with("/responses", Response(dump(done)), Response(dump(second)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        for _ in range(2):
            client.responses.create(model="gpt-5", input="x")
    assert [call.units for call in metered.calls] == [{"containers_4g": 1}, {}]


def test_a_created_container_is_a_call(server: Server, metered: Metered) -> None:
    server.respond_with(
        "/containers", Response(dump({"id": "cntr_1", "object": "container", "memory_limit": "16g"}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        require(client, "containers.create")(name="x", extra_body={"memory_limit": "16g"})
    call = metered.call
    assert (call.operation, call.units, call.usage_reported) == ("container", {"containers_16g": 1}, True)


def test_a_background_interaction_is_one_call_of_its_first_request(server: Server, metered: Metered) -> None:
    pending = {**INTERACTION, "model": None, "agent": "house-agent", "status": "in_progress", "usage": None}
    done = {**pending, "status": "completed", "usage": INTERACTION["usage"]}
    server.respond_with("/interactions", Response(dump(pending)))
    server.respond_with("/v1_a", Response(dump(pending)), Response(dump(done)))
    with llm_exporter.instrument(GOOGLE["sync"](server.url)) as client:
        with llm_exporter.labels(agent="planner"):
            require(client, "interactions.create")(agent="house-agent", input="x", background=True)
        assert metered.calls == []
        for status in ("in_progress", "completed", "completed"):
            assert client.interactions.get("v1_a").status == status
    call = metered.call
    assert (call.agent, call.model, call.requested_model) == ("planner", "house-agent", "house-agent")
    assert call.tokens == {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40}
    assert call.unpriced_tokens == 520


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
