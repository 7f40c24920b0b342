"""Which requests are metered, and by which reader."""

from __future__ import annotations

import pytest

from llm_exporter.wire import Reader, reader_for
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.free import CountTokensReader, ModerationReader
from llm_exporter.wire.gemini import (
    EmbedContentReader,
    GenerateContentReader,
    PredictImagesReader,
    PredictReader,
)
from llm_exporter.wire.interactions import InteractionsReader
from llm_exporter.wire.media import ImagesReader, SpeechReader, TranscriptionReader, TranslationReader
from llm_exporter.wire.openai import (
    ChatReader,
    CompletionReader,
    EmbeddingsReader,
    ResponsesReader,
    RetrievedResponseReader,
)

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
    ],
)
def test_what_generates_is_read_by_the_reader_of_its_format(url: str, reader: type[Reader]) -> None:
    """The end of the path tells the format, whatever stands before or behind it."""
    assert reader_for("POST", url) is reader
    assert reader_for("post", url) is reader


def test_a_response_that_is_fetched_is_read_as_one() -> None:
    """Polling asks for the same response again and again."""
    assert reader_for("GET", "/responses/resp_t?stream=false") is RetrievedResponseReader
    assert reader_for("GET", "/responses/resp_t/input_items") is None


@pytest.mark.parametrize(
    "url",
    [
        "/models",
        "/files",
        "/chat/completions/chatcmpl_t",
        "/responses/resp_t/cancel",
        "/v1/messages/batches",
        f"{GEMINI}:batchGenerateContent",
        "/nochat/completionsx",
        "/models?next=/chat/completions",
        "",
    ],
)
def test_what_generates_nothing_is_not_metered(url: str) -> None:
    """Lists, files, counting and batches to come are no calls of a model."""
    assert reader_for("POST", url) is None


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "PATCH", "get"])
@pytest.mark.parametrize(
    "url", ["/chat/completions", "/responses", "/v1/messages", f"{GEMINI}:generateContent"]
)
def test_only_a_post_generates(method: str, url: str) -> None:
    """The same path lists or deletes what is stored."""
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
def test_operation_is_in_the_terms_of_opentelemetry(reader: type[Reader], operation: str) -> None:
    """`gen_ai.operation.name` has a word for each."""
    assert reader.operation == operation
