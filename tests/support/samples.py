"""Sample responses in every wire format, streamed or not, and their expected readings."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from msgspec.structs import replace

from llm_exporter.wire import routes
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.anthropic_agents import (
    DreamReader,
    RetrievedDreamReader,
    RetrievedSessionReader,
    SessionEventsReader,
    SessionInputReader,
    SessionReader,
)
from llm_exporter.wire.batches import (
    AnthropicResultsReader,
    GeminiBatchReader,
    GeminiFileReader,
    OpenAIFileReader,
)
from llm_exporter.wire.free import CountTokensReader, ModerationReader
from llm_exporter.wire.gemini import (
    CachedContentReader,
    EmbedContentReader,
    GenerateContentReader,
    PredictImagesReader,
    PredictReader,
)
from llm_exporter.wire.interactions import (
    GoogleDecisionReader,
    InteractionsReader,
    RetrievedInteractionReader,
)
from llm_exporter.wire.media import (
    ImagesReader,
    SpeechReader,
    TranscriptionReader,
    TranslationReader,
    VideosReader,
)
from llm_exporter.wire.openai import ChatReader, CompletionReader, DecisionReader, EmbeddingsReader
from llm_exporter.wire.openai_jobs import (
    AgentSessionReader,
    ContainerReader,
    EvaluationReader,
    FineTuningReader,
    GraderReader,
    RetrievedAgentSessionReader,
    RetrievedEvaluationReader,
    RetrievedFineTuningReader,
    RetrievedRunReader,
    RunReader,
)
from llm_exporter.wire.openai_responses import ResponsesReader, RetrievedResponseReader
from llm_exporter.wire.reader import Reader, Reading

Json = dict[str, Any]
JSON: Final = "application/json"
SSE: Final = "text/event-stream"
AWS: Final = "application/vnd.amazon.eventstream"
BYTES: Final = "application/octet-stream"
WORDS: Final = ("Zwölf", " 漢字", " 🦩\u2028", ' "usage": {"x": 1}\n\n', "\x0b\x0c\x85.")
"""Generated text with characters of two, three and four bytes, and all kinds of line ends."""

READERS: Final[list[type[Reader]]] = list(dict.fromkeys(reader for _, reader in routes._ROUTES))
"""The readers of all routes."""


@dataclass(frozen=True)
class Sample:
    """A sample response and its expected reading."""

    name: str
    reader: type[Reader]
    data: bytes
    content_type: str
    reading: Reading

    @property
    def streamed(self) -> bool:
        """Whether the response is read event by event."""
        return self.reader.is_json_lines or self.content_type in (SSE, AWS)

    def __str__(self) -> str:
        return self.name


def run_events() -> list[Json]:
    """Return the events of a streamed run of an assistant."""
    said = [
        {"object": "thread.message.delta", "delta": {"content": [{"text": {"value": word}}]}}
        for word in WORDS
    ]
    return [{**RUN, "status": "queued", "usage": None}, *said, RUN]


RUN: Final[Json] = {
    "object": "thread.run",
    "id": "run_t",
    "model": "t",
    "status": "completed",
    "usage": {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38},
}
_RUN: Final = Reading(model="t", tokens={"input": 31, "output": 7}, response_id="run_t")
JOB: Final[Json] = {"id": "ftjob-t", "model": "t", "status": "succeeded", "trained_tokens": 900}
_JOB: Final = Reading(model="t", tokens={}, units={"trained_tokens": 900}, response_id="ftjob-t")


def agent_events() -> list[Json]:
    """Return the events of a streamed session of a hosted agent."""
    said = [
        {"type": "agent.session.turn.output_text.delta", "session_id": "sess_t", "delta": word}
        for word in WORDS
    ]
    created = {"type": "agent.session.created", "session": {**SESSION, "usage": None}}
    return [created, *said, {"type": "agent.session.idle", "session": SESSION}]


SESSION: Final[Json] = {
    "id": "sess_t",
    "status": "idle",
    "agent": {"model": "t", "service_tier": "flex"},
    "usage": {"input_tokens": 31, "output_tokens": 7, "total_tokens": 38},
}
_SESSION: Final = Reading(
    model="t", tokens={"input": 31, "output": 7}, service_tier="flex", response_id="sess_t"
)
EVALUATION: Final[Json] = {
    "id": "evalrun_t",
    "status": "completed",
    "per_model_usage": [{"model_name": "t", "prompt_tokens": 31, "cached_tokens": 0, "completion_tokens": 7}],
}
_EVALUATION: Final = Reading(
    response_id="evalrun_t", sub_calls=[Reading(model="t", tokens={"input": 31, "output": 7})]
)


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def sse(events: Iterable[Json], newline: str = "\n", kinds: bool = False, done: bool = False) -> bytes:
    """Return server-sent events, preceded by a comment."""
    lines = [": a comment", ""]
    for event in events:
        if kinds:
            lines.append(f"event: {event['type']}")
        lines += [f"data: {json.dumps(event, ensure_ascii=False)}", ""]
    if done:
        lines += ["data: [DONE]", ""]
    return "".join(line + newline for line in lines).encode()


def eventstream(events: Iterable[Json]) -> bytes:
    """Return events in the binary frames of Bedrock."""
    frames = b""
    for event in events:
        inner = base64.b64encode(dump(event)).decode()
        frames += frame(dump({"bytes": inner, "p": "abcdefgh"}))
    return frames


EVENT: Final = {b":event-type": b"chunk", b":content-type": b"application/json", b":message-type": b"event"}


def frame(payload: bytes, named: Mapping[bytes, bytes] = MappingProxyType(EVENT)) -> bytes:
    """Return one frame of an AWS event stream: lengths, checksum, headers, payload, checksum."""
    headers = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value  # 7: a string
        for name, value in named.items()
    )
    prelude = struct.pack(">II", 12 + len(headers) + len(payload) + 4, len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


# ---- streams


def chat_events() -> list[Json]:
    def chunk(choices: list[Json], usage: Json | None = None) -> Json:
        return {"id": "t", "model": "gpt-t", "choices": choices, "usage": usage}

    deltas: list[Json] = [{"role": "assistant", "content": ""}, *({"content": word} for word in WORDS)]
    return [*(chunk([{"index": 0, "delta": delta}]) for delta in deltas), chunk([], CHAT_USAGE)]


def completion_events() -> list[Json]:
    texts = [{"model": "gpt-t", "choices": [{"index": 0, "text": word}]} for word in WORDS]
    return [*texts, {"model": "gpt-t", "choices": [], "usage": CHAT_USAGE}]


def responses_events() -> list[Json]:
    return [
        {"type": "response.created", "response": {**RESPONSE, "output": [], "usage": None}},
        *({"type": "response.output_text.delta", "delta": word} for word in WORDS),
        {"type": "response.completed", "response": RESPONSE},
    ]


def messages_events() -> list[Json]:
    begun = {"model": "claude-t", "usage": {"input_tokens": 31, "output_tokens": 2}}
    return [
        {"type": "message_start", "message": begun},
        {"type": "ping"},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in WORDS
        ),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]


def gemini_events() -> list[Json]:
    return [
        {
            "candidates": [{"content": {"parts": [{"text": word}], "role": "model"}}],
            "usageMetadata": {"promptTokenCount": 31, "candidatesTokenCount": number + 3},
            "modelVersion": "gemini-t",
        }
        for number, word in enumerate(WORDS)
    ]


def interactions_events() -> list[Json]:
    return [
        {"event_type": "interaction.created", "interaction": {"id": "t", "status": "in_progress"}},
        *({"event_type": "step.delta", "delta": {"type": "text", "text": word}} for word in WORDS),
        {"event_type": "interaction.completed", "interaction": INTERACTION},
    ]


def images_events() -> list[Json]:
    return [
        *({"type": "image_generation.partial_image", "b64_json": "iVBORw0K" * 9} for _ in WORDS),
        {"type": "image_generation.completed", "b64_json": "iVBORw0K" * 9, "usage": RESPONSE_USAGE},
    ]


def speech_events() -> list[Json]:
    return [
        *({"type": "speech.audio.delta", "audio": "SUQzBAAA" * 9} for _ in WORDS),
        {"type": "speech.audio.done", "usage": RESPONSE_USAGE},
    ]


def transcription_events() -> list[Json]:
    return [
        *({"type": "transcript.text.delta", "delta": word} for word in WORDS),
        {"type": "transcript.text.done", "text": "".join(WORDS), "usage": RESPONSE_USAGE},
    ]


# ---- bodies

CHAT_USAGE: Final = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
RESPONSE_USAGE: Final = {"input_tokens": 31, "output_tokens": 7, "total_tokens": 38}
CHAT: Final = {
    "object": "chat.completion",
    "model": "gpt-t",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}}],
    "usage": CHAT_USAGE,
}
RESPONSE: Final[Json] = {
    "id": "resp_t",
    "object": "response",
    "status": "completed",
    "model": "o-t",
    "error": None,
    "output": [
        {"type": "web_search_call", "action": {"type": "search", "query": WORDS[1]}},
        {"type": "message", "content": [{"type": "output_text", "text": "".join(WORDS)}]},
    ],
    "usage": RESPONSE_USAGE,
}
MESSAGE: Final = {
    "id": "msg_t",
    "type": "message",
    "model": "claude-t",
    "content": [{"type": "text", "text": "".join(WORDS)}],
    "usage": {
        "input_tokens": 31,
        "cache_creation_input_tokens": 5,
        "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
        "cache_read_input_tokens": 11,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 2},
        "service_tier": "standard",
        "iterations": [
            {"type": "message", "input_tokens": 31, "output_tokens": 7},
            {"type": "compaction", "model": "claude-u", "input_tokens": 13, "output_tokens": 1},
        ],
    },
}
GENERATED: Final = {
    "candidates": [{"content": {"parts": [{"text": "".join(WORDS)}], "role": "model"}}],
    "usageMetadata": {
        "promptTokenCount": 31,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 20},
            {"modality": "AUDIO", "tokenCount": 11},
        ],
        "cachedContentTokenCount": 6,
        "toolUsePromptTokenCount": 2,
        "thoughtsTokenCount": 9,
        "candidatesTokenCount": 7,
        "totalTokenCount": 49,
        "trafficType": "ON_DEMAND_PRIORITY",
    },
    "modelVersion": "gemini-t",
}
INTERACTION: Final = {
    "id": "t",
    "model": "gemini-t",
    "status": "completed",
    "usage": {
        "total_input_tokens": 31,
        "input_tokens_by_modality": [{"modality": "image", "tokens": 8}],
        "total_cached_tokens": 3,
        "total_tool_use_tokens": 2,
        "total_output_tokens": 7,
        "total_thought_tokens": 9,
    },
}


def _batch_line(number: int, body: Json, status: int = 200) -> bytes:
    response = {"status_code": status, "request_id": "r", "body": body}
    return dump({"id": f"batch_req_{number}", "custom_id": str(number), "response": response}) + b"\n"


def _result_line(kind: str, **fields: Json) -> bytes:
    return dump({"custom_id": "t", "result": {"type": kind, **fields}}) + b"\n"


_CHAT: Final = Reading("gpt-t", {"input": 31, "output": 7})
_RESPONSE: Final = Reading("o-t", {"input": 31, "output": 7}, units={"web_searches": 1}, response_id="resp_t")
_MESSAGE: Final = Reading(
    "claude-t",
    {"input": 31, "cache_read": 11, "cache_write": 2, "cache_write_1h": 3, "output": 3, "reasoning": 4},
    units={"web_searches": 2},
    service_tier="standard",
    sub_calls=[Reading("claude-u", {"input": 13, "output": 1})],
)
_STREAMED_MESSAGE: Final = Reading("claude-t", {"input": 31, "output": 7}, token_seen=True)
_WHOLE_GENERATED: Final = Reading(
    "gemini-t",
    {"input": 16, "input_audio": 11, "cache_read": 6, "output": 7, "reasoning": 9},
    service_tier="priority",
)
_GENERATED: Final = Reading("gemini-t", {"input": 31, "output": 7}, token_seen=True)
_INTERACTION: Final = Reading(
    "gemini-t",
    {"input": 22, "input_image": 8, "cache_read": 3, "output": 7, "reasoning": 9},
    response_id="t",
)
_IMAGES: Final = Reading(tokens={"input": 31, "output_image": 7})
_BATCH: Final = [
    replace(_CHAT, operation="chat"),
    replace(_RESPONSE, operation="chat"),
    replace(_CHAT, operation="embeddings"),
]


def _with_token(reading: Reading) -> Reading:
    return replace(reading, token_seen=True)


MANAGED: Final[Json] = {
    "type": "session",
    "id": "sesn_t",
    "status": "idle",
    "title": WORDS[0],
    "agent": {"model": {"id": "claude-t-5"}},
    "usage": {
        "input_tokens": 21,
        "output_tokens": 9,
        "active_seconds": 1.5,
        "list_cost": {"amount": "150", "currency": "USD"},
    },
}
_MANAGED: Final = Reading(
    "claude-t-5",
    tokens={"input": 21, "output": 9},
    units={"agent_seconds": 1.5},
    reported_cost=1.5,
    response_id="sesn_t",
    pending=True,
)
DREAM: Final[Json] = {
    "type": "dream",
    "id": "drm_t",
    "status": "completed",
    "instructions": WORDS[0],
    "model": {"id": "claude-t-5"},
    "usage": {"input_tokens": 21, "output_tokens": 9},
}
_DREAM: Final = Reading("claude-t-5", tokens={"input": 21, "output": 9}, response_id="drm_t")

SAMPLES: Final = [
    Sample("chat", ChatReader, dump(CHAT), JSON, _CHAT),
    Sample("chat stream, LF", ChatReader, sse(chat_events(), done=True), SSE, _with_token(_CHAT)),
    Sample("chat stream, CR", ChatReader, sse(chat_events(), "\r", done=True), SSE, _with_token(_CHAT)),
    Sample(
        "chat stream, byte order mark",
        ChatReader,
        b"\xef\xbb\xbf" + sse(chat_events(), done=True),
        SSE,
        _with_token(_CHAT),
    ),
    Sample("chat stream, CRLF", ChatReader, sse(chat_events(), "\r\n", done=True), SSE, _with_token(_CHAT)),
    Sample("completion", CompletionReader, dump({"model": "gpt-t", "usage": CHAT_USAGE}), JSON, _CHAT),
    Sample(
        "completion stream", CompletionReader, sse(completion_events(), done=True), SSE, _with_token(_CHAT)
    ),
    Sample("response", ResponsesReader, dump(RESPONSE), JSON, _RESPONSE),
    Sample(
        "response stream, LF",
        ResponsesReader,
        sse(responses_events(), kinds=True),
        SSE,
        _with_token(_RESPONSE),
    ),
    Sample(
        "response stream, CRLF",
        ResponsesReader,
        sse(responses_events(), "\r\n", kinds=True),
        SSE,
        _with_token(_RESPONSE),
    ),
    Sample("retrieved response", RetrievedResponseReader, dump(RESPONSE), JSON, _RESPONSE),
    Sample(
        "retrieved response stream",
        RetrievedResponseReader,
        sse(responses_events(), kinds=True),
        SSE,
        _with_token(_RESPONSE),
    ),
    Sample(
        "OpenAI batch",
        OpenAIFileReader,
        _batch_line(1, CHAT)
        + _batch_line(2, {"error": {"message": "no"}}, status=400)
        + _batch_line(3, RESPONSE)
        + b"\n"
        + _batch_line(4, {"object": "list", "model": "gpt-t", "usage": CHAT_USAGE}),
        BYTES,
        Reading(response_id="batch batch_req_1", sub_calls=_BATCH),
    ),
    Sample(
        "Anthropic batch",
        AnthropicResultsReader,
        _result_line("errored", error={"type": "error"}) + _result_line("succeeded", message=MESSAGE),
        "application/x-jsonl",
        Reading(
            response_id="batch msg_t",
            sub_calls=[replace(_MESSAGE, operation="chat"), *_MESSAGE.sub_calls],
        ),
    ),
    Sample(
        "embeddings",
        EmbeddingsReader,
        dump({"object": "list", "data": [], "model": "gpt-t", "usage": {"prompt_tokens": 31}}),
        JSON,
        Reading("gpt-t", {"input": 31}),
    ),
    Sample("images", ImagesReader, dump({"data": [], "usage": RESPONSE_USAGE}), JSON, _IMAGES),
    Sample("images stream", ImagesReader, sse(images_events(), kinds=True), SSE, _IMAGES),
    Sample(
        "transcription",
        TranscriptionReader,
        dump({"text": WORDS[0], "usage": {"type": "duration", "seconds": 90}}),
        JSON,
        Reading(tokens={}, units={"input_audio_seconds": 90}),
    ),
    Sample(
        "transcription stream",
        TranscriptionReader,
        sse(transcription_events()),
        SSE,
        Reading(tokens={"input": 31, "output": 7}, token_seen=True),
    ),
    Sample(
        "translation",
        TranslationReader,
        dump({"text": WORDS[0], "duration": "30.5"}),
        JSON,
        Reading(tokens={}, units={"input_audio_seconds": 30.5}),
    ),
    Sample("speech", SpeechReader, b'{"usage": {"input_tokens": 9}}', "audio/mpeg", Reading()),
    Sample(
        "speech stream",
        SpeechReader,
        sse(speech_events()),
        SSE,
        Reading(tokens={"input": 31, "output_audio": 7}),
    ),
    Sample("moderation", ModerationReader, dump({"model": "t", "results": []}), JSON, Reading(model="t")),
    Sample(
        "decision",
        DecisionReader,
        dump({"model": "t", "answers": [], "usage": {"input_tokens": 31, "output_tokens": 7}}),
        JSON,
        Reading(model="t", tokens={"input": 31, "output": 7}),
    ),
    Sample("agent session", AgentSessionReader, dump(SESSION), JSON, _SESSION),
    Sample("agent session stream", AgentSessionReader, sse(agent_events()), SSE, _with_token(_SESSION)),
    Sample("retrieved agent session", RetrievedAgentSessionReader, dump(SESSION), JSON, _SESSION),
    Sample("run", RunReader, dump(RUN), JSON, _RUN),
    Sample("run stream", RunReader, sse(run_events()), SSE, _with_token(_RUN)),
    Sample("retrieved run", RetrievedRunReader, dump(RUN), JSON, _RUN),
    Sample("fine-tuning", FineTuningReader, dump(JOB), JSON, _JOB),
    Sample("retrieved fine-tuning", RetrievedFineTuningReader, dump(JOB), JSON, _JOB),
    Sample(
        "grader",
        GraderReader,
        dump({"reward": 1, "model_grader_token_usage_per_model": {"t": RUN["usage"], "u": RUN["usage"]}}),
        JSON,
        Reading(
            model="t",
            tokens={"input": 31, "output": 7},
            sub_calls=[Reading(model="u", tokens={"input": 31, "output": 7})],
        ),
    ),
    Sample("evaluation", EvaluationReader, dump(EVALUATION), JSON, _EVALUATION),
    Sample("retrieved evaluation", RetrievedEvaluationReader, dump(EVALUATION), JSON, _EVALUATION),
    Sample(
        "container",
        ContainerReader,
        dump({"id": "cntr_t", "object": "container", "memory_limit": "4g"}),
        JSON,
        Reading(tokens={}, containers={"cntr_t": "containers_4g"}),
    ),
    Sample("message", MessagesReader, dump(MESSAGE), JSON, _MESSAGE),
    Sample("message stream, LF", MessagesReader, sse(messages_events(), kinds=True), SSE, _STREAMED_MESSAGE),
    Sample(
        "message stream, CRLF",
        MessagesReader,
        sse(messages_events(), "\r\n", kinds=True),
        SSE,
        _STREAMED_MESSAGE,
    ),
    Sample("message stream, Bedrock", MessagesReader, eventstream(messages_events()), AWS, _STREAMED_MESSAGE),
    Sample(
        "generated",
        GenerateContentReader,
        dump(GENERATED),
        JSON,
        _WHOLE_GENERATED,
    ),
    Sample("generated stream, LF", GenerateContentReader, sse(gemini_events()), SSE, _GENERATED),
    Sample("generated stream, CR", GenerateContentReader, sse(gemini_events(), "\r"), SSE, _GENERATED),
    Sample("generated stream, CRLF", GenerateContentReader, sse(gemini_events(), "\r\n"), SSE, _GENERATED),
    Sample(
        "embedded content",
        EmbedContentReader,
        dump({"embeddings": [], "usageMetadata": {"promptTokenCount": 31}}),
        JSON,
        Reading(tokens={"input": 31}),
    ),
    Sample(
        "predictions",
        PredictReader,
        dump({"predictions": 2 * [{"embeddings": {"statistics": {"token_count": 31}}}]}),
        JSON,
        Reading(tokens={"input": 62}),
    ),
    Sample("predicted images", PredictImagesReader, dump({"predictions": [{}]}), JSON, Reading()),
    Sample("interaction", InteractionsReader, dump(INTERACTION), JSON, _INTERACTION),
    Sample(
        "interaction stream", InteractionsReader, sse(interactions_events()), SSE, _with_token(_INTERACTION)
    ),
    Sample("session", SessionReader, dump(MANAGED), JSON, _MANAGED),
    Sample("retrieved session", RetrievedSessionReader, dump(MANAGED), JSON, _MANAGED),
    Sample(
        "session events",
        SessionEventsReader,
        sse(
            [
                {"type": "agent.message", "content": [{"type": "text", "text": "".join(WORDS)}]},
                {"type": "session.usage", "usage": MANAGED["usage"]},
            ]
        ),
        SSE,
        replace(_MANAGED, model="", response_id=""),
    ),
    Sample(
        "session input", SessionInputReader, dump({"data": [{"text": WORDS[0]}]}), JSON, Reading(pending=True)
    ),
    Sample("dream", DreamReader, dump(DREAM), JSON, _DREAM),
    Sample("retrieved dream", RetrievedDreamReader, dump(DREAM), JSON, _DREAM),
    Sample(
        "Google decision",
        GoogleDecisionReader,
        dump(
            {"answers": {"q": {"choice": WORDS[0]}}, "usage": {"total_input_tokens": 31, "total_tokens": 31}}
        ),
        JSON,
        Reading(tokens={"input": 31}),
    ),
    Sample("retrieved interaction", RetrievedInteractionReader, dump(INTERACTION), JSON, _INTERACTION),
    Sample(
        "Gemini batch",
        GeminiBatchReader,
        dump(
            {
                "name": "batches/t",
                "metadata": {
                    "model": "models/gemini-t",
                    "state": "BATCH_STATE_SUCCEEDED",
                    "output": {"inlinedResponses": {"inlinedResponses": [{"response": GENERATED}, {}]}},
                },
            }
        ),
        JSON,
        Reading(
            "gemini-t",
            response_id="batch batches/t",
            sub_calls=[replace(_WHOLE_GENERATED, operation="generate_content")],
        ),
    ),
    Sample(
        "Gemini file",
        GeminiFileReader,
        dump({"key": "a", "response": GENERATED}) + b"\n" + dump({"key": "b", "error": {"code": 3}}) + b"\n",
        BYTES,
        Reading(response_id="batch ", sub_calls=[replace(_WHOLE_GENERATED, operation="generate_content")]),
    ),
    Sample("video", VideosReader, dump({"id": "video_t", "model": "sora-t"}), JSON, Reading("sora-t")),
    Sample(
        "cached content",
        CachedContentReader,
        dump({"model": "models/gemini-t", "usageMetadata": {"totalTokenCount": 31}}),
        JSON,
        Reading("gemini-t", {"cache_write": 31}),
    ),
    Sample("token count", CountTokensReader, dump({"input_tokens": 31}), JSON, Reading()),
]
