"""Maps the method and URL of a request to the reader of its response."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .anthropic import MessagesReader
from .batches import AnthropicResultsReader, GeminiBatchReader, GeminiFileReader, OpenAIFileReader
from .free import CountTokensReader, ModerationReader
from .gemini import (
    CachedContentReader,
    EmbedContentReader,
    GenerateContentReader,
    PredictImagesReader,
    PredictReader,
)
from .interactions import InteractionsReader, RetrievedInteractionReader
from .media import ImagesReader, SpeechReader, TranscriptionReader, TranslationReader, VideosReader
from .openai import ChatReader, CompletionReader, EmbeddingsReader, ResponsesReader, RetrievedResponseReader
from .reader import Reader
from .unread import UnreadReader

_ROUTES: Final[tuple[tuple[re.Pattern[str], type[Reader]], ...]] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"^POST (?:.*/)?chat/completions$", ChatReader),
        (r"^POST (?:.*/)?completions$", CompletionReader),
        (r"^POST (?:.*/)?responses(?:/compact)?$", ResponsesReader),
        (r"^GET (?:.*/)?responses/[^/]+$", RetrievedResponseReader),
        (r"^GET (?:.*/)?files/[^/]+/content$", OpenAIFileReader),
        (r"^GET .*/messages/batches/[^/]+/results$", AnthropicResultsReader),
        (r"^GET .*/v1[^/]*/batches/[^/]+$", GeminiBatchReader),
        (r"^GET (?:.*/)?files/[^/]+:download$", GeminiFileReader),
        (r"^POST (?:.*/)?embeddings$", EmbeddingsReader),
        (r"^POST (?:.*/)?images/(?:generations|edits|variations)$", ImagesReader),
        (r"^POST (?:.*/)?audio/transcriptions$", TranscriptionReader),
        (r"^POST (?:.*/)?audio/translations$", TranslationReader),
        (r"^POST (?:.*/)?audio/speech$", SpeechReader),
        (r"^POST (?:.*/)?videos(?:/edits|/extensions|/[^/]+/remix)?$", VideosReader),
        (r"^POST (?:.*/)?moderations$", ModerationReader),
        (r"^POST .*/v1/messages$", MessagesReader),
        (r"^POST .*:(?:generateContent|streamGenerateContent)$", GenerateContentReader),
        (r"^POST .*:(?:embedContent|batchEmbedContents)$", EmbedContentReader),
        (r"^POST .*/imagen[^/]*:predict$", PredictImagesReader),
        (r"^POST .*:predict$", PredictReader),
        (r"^POST .*:predictLongRunning$", VideosReader),
        (r"^POST .*/cachedContents$", CachedContentReader),
        (r"^POST (?:.*/)?interactions$", InteractionsReader),
        (r"^GET (?:.*/)?interactions/[^/]+$", RetrievedInteractionReader),
        (r"^POST (?:.*/(?:messages/count_tokens|responses/input_tokens)|.*:countTokens)$", CountTokensReader),
    )
)
"""Only the end of the path matters: the prefix depends on the provider or gateway."""

_FREE: Final = re.compile(
    r"^(?:POST|PUT|PATCH) (?:.*/)?(?:"
    r"files|uploads|uploads/[^/]+/(?:parts|complete|cancel)|upload/.*|files:register"  # files
    r"|batches|messages/batches|[^/]+:(?:asyncB|b)atch[A-Za-z]+"  # their calls are counted with the results
    r"|(?:batches|messages/batches|responses|fine_tuning/jobs)/[^/]+(?::|/)(?:cancel|pause|resume)"
    r")$"
)
"""Requests that providers do not bill and that are not calls to a model."""

_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


@lru_cache(maxsize=1024)  # an application reuses a few paths
def reader_for(method: str, url: str) -> type[Reader] | None:
    """Return the reader for the response to a request, or None if the request is certainly not billed.

    Only a request with a body can be billed, apart from the retrieval of a result. If no reader takes its
    response, `UnreadReader` does.

    Args:
        method: the HTTP method.
        url: an absolute or relative URL.
    """
    request = f"{method.upper()} {url.partition('?')[0]}"
    if reader := next((reader for pattern, reader in _ROUTES if pattern.search(request)), None):
        return reader
    may_be_billed = method.upper() in _WITH_BODY and not _FREE.search(request)
    return UnreadReader if may_be_billed else None
