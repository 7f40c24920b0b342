"""Google's Interactions: https://ai.google.dev/gemini-api/docs/interactions."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from ..call import TokenType
from .gemini import by_modality
from .reading import Json, Reader, count, decoder, error_code, mapping, split, text, without_zeros


class _Interaction(msgspec.Struct):
    model: Any = None
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _Event(msgspec.Struct):
    event_type: Any = None
    interaction: msgspec.Raw = msgspec.Raw()
    delta: Any = None
    error: Any = None


_decode_interaction: Final = decoder(_Interaction)
_decode_event: Final = decoder(_Event)


class InteractionsReader(Reader):
    """Interactions, plain and streamed; in a stream the closing event has the usage."""

    operation: ClassVar[str] = "generate_content"

    def telling(self, data: bytes) -> bool:
        """See `Reader.telling`."""
        return b'"usage"' in data or b'"error"' in data

    def body(self, data: bytes) -> None:
        """Read an interaction."""
        part = _decode_interaction(data)
        reading = self.reading
        reading.model = text(part.model) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        if usage := mapping(part.usage):
            reading.tokens = _tokens_of(usage)

    def event(self, data: bytes) -> None:
        """Read one event."""
        event = _decode_event(data)
        self.reading.error = error_code(event.error) or self.reading.error
        if event.event_type == "step.delta":
            self.saw_token(event.delta)
        elif interaction := bytes(event.interaction):
            self.body(interaction)


def _tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object, which counts as Gemini's `usageMetadata` does."""
    prompt = count(usage.get("total_input_tokens"))
    read = min(count(usage.get("total_cached_tokens")), prompt)
    into = split(prompt - read, **by_modality(usage.get("input_tokens_by_modality"), "tokens"))
    out = split(
        count(usage.get("total_output_tokens")),
        **by_modality(usage.get("output_tokens_by_modality"), "tokens"),
    )
    return without_zeros(
        {
            "input": into["rest"] + count(usage.get("total_tool_use_tokens")),
            "input_audio": into["audio"],
            "input_image": into["image"],
            "input_video": into["video"],
            "cache_read": read,
            "output": out["rest"],
            "reasoning": count(usage.get("total_thought_tokens")),
            "output_audio": out["audio"],
            "output_image": out["image"],
            "output_video": out["video"],
        }
    )
