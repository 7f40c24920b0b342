"""Which reader reads the response to a request, by its method and URL."""

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
"""The end of the path tells what is asked for; what stands before it is the provider's or a gateway's."""


@lru_cache(maxsize=1024)  # an application uses few paths, again and again
def reader_for(method: str, url: str) -> type[Reader] | None:
    """Return the reader for the answer to a request, or None for a request that is no call of a model.

    Args:
        method: the HTTP method.
        url: an absolute or relative URL.
    """
    request = f"{method.upper()} {url.partition('?')[0]}"
    return next((reader for pattern, reader in _ROUTES if pattern.search(request)), None)
