"""Maps the method and URL of a request to the reader of its response."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .anthropic import MessagesReader
from .anthropic_agents import (
    DreamReader,
    RetrievedDreamReader,
    RetrievedSessionReader,
    SessionEventsReader,
    SessionInputReader,
    SessionReader,
)
from .batches import AnthropicResultsReader, GeminiBatchReader, GeminiFileReader, OpenAIFileReader
from .free import CountTokensReader, ModerationReader
from .gemini import (
    CachedContentReader,
    EmbedContentReader,
    GenerateContentReader,
    PredictImagesReader,
    PredictReader,
)
from .interactions import GoogleDecisionReader, InteractionsReader, RetrievedInteractionReader
from .media import ImagesReader, SpeechReader, TranscriptionReader, TranslationReader, VideosReader
from .openai import ChatReader, CompletionReader, DecisionReader, EmbeddingsReader
from .openai_jobs import (
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
from .openai_responses import ResponsesReader, RetrievedResponseReader
from .reader import Reader
from .unread import UnreadReader

_ROUTES: Final[tuple[tuple[re.Pattern[str], type[Reader]], ...]] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"^POST (?:.*/)?chat/completions$", ChatReader),
        (r"^POST (?:.*/)?completions$", CompletionReader),
        (r"^POST (?:.*/)?responses(?:/compact)?$", ResponsesReader),
        (r"^GET (?:.*/)?responses/[^/]+$", RetrievedResponseReader),
        (r"^GET (?!.*(?:containers|vector_stores)/)(?:.*/)?files/[^/]+/content$", OpenAIFileReader),
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
        (r"^POST .*/v\d\w*/(?:projects/.*/)?decisions$", GoogleDecisionReader),
        (r"^POST (?:.*/)?decisions$", DecisionReader),  # relative to the base URL, which has the version
        (r"^POST (?:.*/)?threads/(?:[^/]+/)?runs$", RunReader),
        (r"^POST (?:.*/)?threads/[^/]+/runs/[^/]+/submit_tool_outputs$", RetrievedRunReader),
        (r"^GET (?:.*/)?threads/[^/]+/runs/[^/]+$", RetrievedRunReader),
        (r"^POST (?:.*/)?fine_tuning/jobs$", FineTuningReader),
        (r"^GET (?:.*/)?fine_tuning/jobs/[^/]+$", RetrievedFineTuningReader),
        (r"^POST (?:.*/)?fine_tuning/alpha/graders/run$", GraderReader),
        (r"^POST (?:.*/)?evals/[^/]+/runs$", EvaluationReader),
        (r"^GET (?:.*/)?evals/[^/]+/runs/[^/]+$", RetrievedEvaluationReader),
        (r"^POST (?:.*/)?containers$", ContainerReader),
        (r"^POST (?:.*/)?agents/sessions$", AgentSessionReader),
        (r"^GET (?:.*/)?agents/sessions/[^/]+(?:/events)?$", RetrievedAgentSessionReader),
        (r"^POST .*/v1/messages$", MessagesReader),
        (r"^POST .*/v1/sessions$", SessionReader),
        (r"^(?:GET .*/v1/sessions/[^/]+|POST .*/v1/sessions/[^/]+(?:/archive)?)$", RetrievedSessionReader),
        (r"^GET .*/v1/sessions/[^/]+/events/stream$", SessionEventsReader),
        (r"^POST .*/v1/(?:sessions/[^/]+/events|deployments/[^/]+/run)$", SessionInputReader),
        (r"^POST .*/v1/dreams$", DreamReader),
        (r"^GET .*/v1/dreams/[^/]+$", RetrievedDreamReader),
        (r"^POST .*:(?:generateContent|streamGenerateContent)$", GenerateContentReader),
        (r"^POST .*:(?:embedContent|batchEmbedContents)$", EmbedContentReader),
        (r"^POST .*/(?:imag|virtual-try-on)[^/]*:predict$", PredictImagesReader),
        (r"^POST .*:predict$", PredictReader),
        (r"^POST .*:predictLongRunning$", VideosReader),
        (r"^POST .*/cachedContents$", CachedContentReader),
        (r"^POST (?:.*/)?interactions$", InteractionsReader),
        (r"^GET (?:.*/)?interactions/[^/]+$", RetrievedInteractionReader),
        (r"^POST (?:.*/(?:messages/count_tokens|responses/input_tokens)|.*:countTokens)$", CountTokensReader),
    )
)
"""Only the end of the path matters: the prefix depends on the provider or gateway."""

_FREE_PATHS: Final = """
    files files:register uploads uploads/*/parts uploads/*/complete uploads/*/cancel
    upload/*/files upload/*/environments/**
    batches messages/batches *:batchGenerateContent *:asyncBatchEmbedContent
    batches/*/cancel messages/batches/*/cancel *:cancel
    *:fetchPredictOperation *:computeTokens
    chat/completions/* responses/*/cancel conversations conversations/**
    interactions/*/cancel triggers credentials fileSearchStores auth_tokens
    webhooks webhooks/*:ping webhooks/*:rotateSigningSecret webhook_endpoints webhook_endpoints/**
    assistants assistants/* threads threads/* threads/*/messages threads/*/messages/* threads/*/runs/*
    threads/*/runs/*/cancel chatkit/sessions chatkit/sessions/*/cancel
    containers/*/files vector_stores vector_stores/* vector_stores/*/files vector_stores/*/files/*
    vector_stores/*/file_batches vector_stores/*/file_batches/*/cancel
    evals evals/* evals/*/runs/*/cancel
    fine_tuning/alpha/graders/validate fine_tuning/checkpoints/*/permissions
    fine_tuning/jobs/*/cancel fine_tuning/jobs/*/pause fine_tuning/jobs/*/resume
    realtime/client_secrets realtime/translations/client_secrets realtime/sessions
    realtime/transcription_sessions realtime/calls/*/hangup realtime/calls/*/refer realtime/calls/*/reject
    live/sessions/*/hangup live/sessions/*/refer live/sessions/*/reject
    audio/voice_consents audio/voice_consents/*
    agents agents/* agents/*/archive agents/automations/* agents/automations/*/pause
    agents/automations/*/resume agents/environments/**
    deployments deployments/* deployments/*/archive deployments/*/pause deployments/*/unpause
    dreams/*/archive dreams/*/cancel environments environments/** memory_stores memory_stores/**
    sessions/* sessions/*/resources sessions/*/resources/* sessions/*/threads/*/archive
    skills skills/* skills/*/versions tunnels tunnels/** user_profiles user_profiles/** vaults vaults/**
    organization/** organizations/** projects/*/groups/*/roles projects/*/roles projects/*/roles/*
    projects/*/users/*/roles
"""
"""Ends of paths of requests that providers do not bill: `*` is one segment, `**` is one or more.

Batches are billed, but counted when their results are retrieved.
"""

_PAID_PATHS: Final = "agents/sessions threads/runs"
"""Ends of paths that look like a free one."""


def _any_of(paths: str) -> str:
    """Return a regular expression that matches all paths in a list."""
    patterns = (re.escape(path).replace(r"\*\*", ".+").replace(r"\*", "[^/]+") for path in paths.split())
    return "|".join(patterns)


_FREE: Final = re.compile(rf"(?!.*/(?:{_any_of(_PAID_PATHS)})$)(?:.*/)?(?:{_any_of(_FREE_PATHS)})")

_LONGER_CACHE: Final = re.compile(r"(?:.*/)?cachedContents/[^/]+")
"""The only objects whose update may cost something: the response does not say what a longer lifetime adds."""


def _may_be_billed(method: str, path: str) -> bool:
    if method == "PATCH":  # changes the properties of an object
        return _LONGER_CACHE.fullmatch(path) is not None
    return method in ("POST", "PUT") and not _FREE.fullmatch(path)


@lru_cache(maxsize=1024)  # an application reuses a few paths
def reader_for(method: str, url: str) -> type[Reader] | None:
    """Return the reader for the response to a request, or None if the request is certainly not billed.

    A request that may be billed, and whose response no reader takes, has `UnreadReader`.

    Args:
        method: the HTTP method.
        url: an absolute or relative URL.
    """
    method, path = method.upper(), url.partition("?")[0]
    request = f"{method} {path}"
    if reader := next((reader for pattern, reader in _ROUTES if pattern.search(request)), None):
        return reader
    return UnreadReader if _may_be_billed(method, path) else None
