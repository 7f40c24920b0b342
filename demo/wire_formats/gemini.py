"""Gemini: generateContent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from typing_extensions import override

from ..completions import Completion, Part, Prompt, ProviderError
from .base import Json, WireFormat, server_sent_event, text_of


class GenerateContent(WireFormat):
    """generateContent and streamGenerateContent: https://ai.google.dev/api/generate-content."""

    statuses: ClassVar = {
        "rate_limited": 429,
        "overloaded": 503,
        "unknown_model": 404,
        "prompt_too_long": 400,
    }

    @override
    def prompt(self, request: Json) -> Prompt:  # the model is in the path
        *before, last = request["contents"]
        config = request.get("generationConfig", {})
        thinking = config.get("thinkingConfig", {})
        prefix = (request.get("systemInstruction", ""), *before)
        return Prompt(
            model=request["model"],
            prefix=tuple(Part(text_of(each), "input") for each in prefix),
            rest=text_of(last),
            max_output=config.get("maxOutputTokens"),
            # The SDK sends this field in snake case. The API accepts both.
            reasoning=thinking.get("thinkingBudget", thinking.get("thinking_budget")) != 0,
        )

    @override
    def response(self, completion: Completion) -> Json:
        return self._response(
            completion, "".join(completion.text), completion.tokens["output"], self._finish_reason(completion)
        )

    @override
    def events(self, completion: Completion, request: Json) -> Iterator[str]:
        pieces = len(completion.text)
        for number, piece in enumerate(completion.text, 1):
            so_far = completion.tokens["output"] * number // pieces
            finish_reason = self._finish_reason(completion) if number == pieces else None
            yield server_sent_event(self._response(completion, piece, so_far, finish_reason))

    def _finish_reason(self, completion: Completion) -> str:
        return "MAX_TOKENS" if completion.truncated else "STOP"

    def _response(self, completion: Completion, text: str, so_far: int, finish_reason: str | None) -> Json:
        candidate = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if finish_reason:
            candidate["finishReason"] = finish_reason
        reasoning, cached = completion.tokens["reasoning"], completion.tokens["cache_read"]
        usage: Json = {
            "promptTokenCount": completion.input_tokens,
            "candidatesTokenCount": so_far,
            "totalTokenCount": completion.input_tokens + so_far + reasoning,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": completion.input_tokens}],
        }
        # The API omits counts of zero.
        if cached:
            usage["cachedContentTokenCount"] = cached
            usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": cached}]
        if reasoning:
            usage["thoughtsTokenCount"] = reasoning
        return {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": completion.model.dated_name,
            "responseId": completion.id,
        }

    @override
    def headers(self) -> dict[str, str]:
        return {"x-gemini-service-tier": "standard"}  # the API sends no rate limits

    @override
    def retry_headers(self, seconds: float) -> dict[str, str]:
        return {}  # the API sends none

    @override
    def error(self, error: ProviderError) -> Json:
        status, message = {
            "rate_limited": ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
            "overloaded": ("UNAVAILABLE", "The model is overloaded. Please try again later."),
            "unknown_model": (
                "NOT_FOUND",
                f"models/{error.model} is not found for API version v1, or is not supported for "
                "generateContent.",
            ),
            "prompt_too_long": (
                "INVALID_ARGUMENT",
                f"The input token count ({error.tokens}) exceeds the maximum number of tokens allowed "
                f"({error.limit}).",
            ),
        }[error.fault]
        return {"error": {"code": self.statuses[error.fault], "message": message, "status": status}}
