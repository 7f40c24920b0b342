"""Which requests are metered, and by which reader."""

from __future__ import annotations

from typing import get_args

import pytest

from llm_exporter.call import Operation
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.batches import GeminiBatchReader, GeminiFileReader
from llm_exporter.wire.free import CountTokensReader, ModerationReader
from llm_exporter.wire.gemini import (
    CachedContentReader,
    EmbedContentReader,
    GenerateContentReader,
    PredictImagesReader,
    PredictReader,
)
from llm_exporter.wire.interactions import InteractionsReader, RetrievedInteractionReader
from llm_exporter.wire.live import LiveReader
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
from llm_exporter.wire.reader import Reader
from llm_exporter.wire.realtime import InputTranscriptionReader, RealtimeReader, ResponseTurnReader
from llm_exporter.wire.routes import reader_for
from llm_exporter.wire.unread import UnreadReader
from support.samples import READERS

GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-t"
VERTEX = (
    "https://us-west9-aiplatform.googleapis.com/v1/projects/p/locations/us-west9/publishers/google/models"
)


@pytest.mark.parametrize(
    ("url", "reader"),
    [
        ("/chat/completions", ChatReader),
        ("/chat/completions?stream=1", ChatReader),
        ("https://api.openai.com/v1/chat/completions", ChatReader),
        (
            "https://t.openai.azure.com/openai/deployments/d/chat/completions?api-version=2030-01-01",
            ChatReader,
        ),
        ("http://127.0.0.1:8000/any/prefix/of/a/gateway/chat/completions", ChatReader),
        ("/responses", ResponsesReader),
        ("https://api.openai.com/v1/responses?include[]=x", ResponsesReader),
        ("/v1/messages", MessagesReader),
        ("/v1/messages?beta=true", MessagesReader),
        ("https://api.anthropic.com/v1/messages", MessagesReader),
        (f"{GEMINI}:generateContent", GenerateContentReader),
        (f"{GEMINI}:streamGenerateContent?alt=sse", GenerateContentReader),
        (f"{VERTEX}/gemini-t:streamGenerateContent?alt=sse", GenerateContentReader),
        (
            "https://generativelanguage.googleapis.com/v1beta/tunedModels/t:generateContent",
            GenerateContentReader,
        ),
        ("/completions", CompletionReader),
        ("/responses/compact", ResponsesReader),
        ("/embeddings", EmbeddingsReader),
        ("/images/generations", ImagesReader),
        ("/images/edits", ImagesReader),
        ("/images/variations", ImagesReader),
        ("/audio/transcriptions", TranscriptionReader),
        ("/audio/translations", TranslationReader),
        ("/audio/speech", SpeechReader),
        ("/moderations", ModerationReader),
        ("https://api.openai.com/v1/responses/input_tokens", CountTokensReader),
        ("/v1/messages/count_tokens?beta=true", CountTokensReader),
        (f"{GEMINI}:countTokens", CountTokensReader),
        (f"{GEMINI}:embedContent", EmbedContentReader),
        (f"{GEMINI}:batchEmbedContents", EmbedContentReader),
        (f"{VERTEX}/text-embedding-t:predict", PredictReader),
        (f"{VERTEX}/imagen-t:predict", PredictImagesReader),
        ("https://generativelanguage.googleapis.com/v1beta/interactions", InteractionsReader),
        ("https://generativelanguage.googleapis.com/v1beta/cachedContents", CachedContentReader),
        (f"{VERTEX.partition('/publishers')[0]}/cachedContents", CachedContentReader),
        (f"{GEMINI}:predictLongRunning", VideosReader),
        ("/videos", VideosReader),
        ("/videos/edits", VideosReader),
        ("/videos/extensions", VideosReader),
        ("/videos/video_t/remix", VideosReader),
        ("/decisions", DecisionReader),
        ("/threads/runs", RunReader),
        ("/threads/thread_t/runs", RunReader),
        ("/threads/thread_t/runs/run_t/submit_tool_outputs", RetrievedRunReader),
        ("/fine_tuning/jobs", FineTuningReader),
        ("/fine_tuning/alpha/graders/run", GraderReader),
        ("/evals/eval_t/runs", EvaluationReader),
        ("/containers", ContainerReader),
        ("/agents/sessions", AgentSessionReader),
    ],
)
def test_generating_request_has_the_reader_of_its_format(url: str, reader: type[Reader]) -> None:
    """Only the end of the path matters."""
    assert reader_for("POST", url) is reader
    assert reader_for("post", url) is reader


def test_retrieved_response_has_a_reader() -> None:
    """Polling retrieves the same response repeatedly."""
    assert reader_for("GET", "/responses/resp_t?stream=false") is RetrievedResponseReader
    assert reader_for("GET", "/responses/resp_t/input_items") is None


def test_retrieved_jobs_of_openai_have_readers() -> None:
    """They have usage when they are finished."""
    assert reader_for("GET", "/threads/thread_t/runs/run_t") is RetrievedRunReader
    assert reader_for("GET", "/threads/thread_t/runs/run_t/steps") is None
    assert reader_for("GET", "/fine_tuning/jobs/ftjob-t") is RetrievedFineTuningReader
    assert reader_for("GET", "/fine_tuning/jobs/ftjob-t/events") is None
    assert reader_for("GET", "/evals/eval_t/runs/evalrun_t") is RetrievedEvaluationReader
    assert reader_for("GET", "/evals/eval_t/runs/evalrun_t/output_items") is None
    assert reader_for("GET", "/agents/sessions/sess_t") is RetrievedAgentSessionReader
    assert reader_for("GET", "/agents/sessions/sess_t/turns") is None


def test_retrieved_results_of_google_have_readers() -> None:
    """These are batches, result files and interactions."""
    google = "https://generativelanguage.googleapis.com/v1beta"
    assert reader_for("GET", f"{google}/batches/t") is GeminiBatchReader
    assert reader_for("GET", f"{google}/batches?pageSize=9") is None
    assert reader_for("GET", "files/t:download?alt=media") is GeminiFileReader
    assert reader_for("GET", f"{google}/files/t") is None
    assert reader_for("GET", f"{google}/interactions/t") is RetrievedInteractionReader


@pytest.mark.parametrize("url", ["/batches/t", "/v1/messages/batches/t", "/videos/t", "/videos/t/content"])
def test_polling_a_job_without_usage_is_not_metered(url: str) -> None:
    """Other batches report usage in files. A video is counted when it is requested."""
    assert reader_for("GET", url) is None


@pytest.mark.parametrize(
    "url",
    [
        "/files",
        "/chat/completions/chatcmpl_t",
        "/responses/resp_t/cancel",
        "/v1/messages/batches",
        f"{GEMINI}:batchGenerateContent",
        f"{GEMINI}:asyncBatchEmbedContent",
        "https://generativelanguage.googleapis.com/upload/v1beta/files",
        "/v1/organizations/workspaces/t/members?beta=true",
    ],
)
def test_request_that_generates_nothing_is_not_metered(url: str) -> None:
    """Stored objects, files and new batches are not calls to a model."""
    assert reader_for("POST", url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/models",
        "/nochat/completionsx",
        "/models?next=/chat/completions",
        "/threads/runs/unheard-of",
        "/agents/sessions/sess_t/events",
        "/never/heard/of",
        f"{GEMINI}:summarizeContent",
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "post"])
def test_request_that_may_be_billed_is_counted_as_unread(method: str, url: str) -> None:
    """Anything that is not known to be free may be billed."""
    assert reader_for(method, url) is UnreadReader


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "PATCH", "get"])
@pytest.mark.parametrize(
    "url", ["/chat/completions", "/responses", "/v1/messages", f"{GEMINI}:generateContent"]
)
def test_only_a_post_request_is_metered(method: str, url: str) -> None:
    """Other methods list or delete stored objects."""
    assert reader_for(method, url) is None


@pytest.mark.parametrize(
    ("reader", "operation"),
    [
        (ChatReader, "chat"),
        (ResponsesReader, "chat"),
        (MessagesReader, "chat"),
        (GenerateContentReader, "generate_content"),
    ],
)
def test_operation_is_opentelemetrys_name(reader: type[Reader], operation: str) -> None:
    """`gen_ai.operation.name` defines a value for each of these readers."""
    assert reader.operation == operation


def test_documented_operations_are_those_that_readers_emit() -> None:
    """Mypy checks that readers emit only documented operations; here, that they emit all of them."""
    readers: list[type[Reader]] = [
        *READERS,
        LiveReader,
        RealtimeReader,
        InputTranscriptionReader,
        ResponseTurnReader,
        UnreadReader,
    ]

    assert {reader.operation for reader in readers} == set(get_args(Operation))
