"""Google's Interactions API: https://ai.google.dev/gemini-api/docs/interactions.

Agents run in the background; their results are retrieved later.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from ..call import TokenType
from .fields import Json, count, decoder, error_code, mapping, sequence, split, text, without_zeros
from .gemini import by_modality, searches
from .reader import Reader


class _Interaction(msgspec.Struct):
    id: Any = None
    status: Any = None
    model: Any = None
    agent: Any = None
    steps: msgspec.Raw = msgspec.Raw()
    usage: Any = None
    service_tier: Any = None
    error: Any = None


class _Step(msgspec.Struct):
    type: Any = None
    arguments: Any = None


class _Event(msgspec.Struct):
    event_type: Any = None
    interaction: msgspec.Raw = msgspec.Raw()
    step: Any = None
    delta: Any = None
    error: Any = None


_decode_interaction: Final = decoder(_Interaction)
_decode_steps: Final = decoder(list[_Step])
_decode_event: Final = decoder(_Event)


class InteractionsReader(Reader):
    """Interactions. In a stream, the last event has the usage and earlier ones have the steps."""

    operation = "generate_content"

    def __init__(self) -> None:
        super().__init__()
        self._queries: set[str] = set()

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usage"' in data or b'"google_search_call"' in data or b'"error"' in data

    @override
    def read_body(self, data: bytes) -> None:
        part = _decode_interaction(data)
        self._update(part)
        self.reading.pending = part.status in ("queued", "in_progress")

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode_event(data)
        self.reading.error = error_code(event.error) or self.reading.error
        self._note_queries(mapping(event.step))
        self._note_queries(mapping(event.delta))
        if event.event_type == "step.delta":
            self.note_generated(event.delta)
        elif interaction := bytes(event.interaction):
            self._update(_decode_interaction(interaction))

    def _update(self, part: _Interaction) -> None:
        reading = self.reading
        reading.response_id = text(part.id) or reading.response_id
        reading.model = text(part.model) or text(part.agent) or reading.model
        reading.service_tier = text(part.service_tier) or reading.service_tier
        reading.error = error_code(part.error) or reading.error
        steps = bytes(part.steps)
        if b'"google_search_call"' in steps:
            for step in _decode_steps(steps):
                self._note_queries({"type": step.type, "arguments": step.arguments})
        if usage := mapping(part.usage):
            reading.tokens = _tokens_of(usage)
            reading.units = searches(reading.model, len(self._queries) or _search_count(usage))

    def _note_queries(self, step: Json) -> None:
        """Note the search queries of a step. Steps arrive before the usage."""
        if step.get("type") == "google_search_call":
            queries = sequence(mapping(step.get("arguments")).get("queries"))
            self._queries.update(query for query in map(text, queries) if query)


class RetrievedInteractionReader(InteractionsReader):
    """The retrieval of an interaction that an earlier request started."""

    is_retrieval = True


def _search_count(usage: Json) -> int:
    """Return the number of Google searches in a `usage` object, for responses without the queries."""
    tools = map(mapping, sequence(usage.get("grounding_tool_count")))
    return sum(count(tool.get("count")) for tool in tools if tool.get("type") == "google_search")


def _tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object; its counts relate as in Gemini's `usageMetadata`."""
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
