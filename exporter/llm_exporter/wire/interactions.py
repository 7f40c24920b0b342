"""Google's Interactions API: https://ai.google.dev/gemini-api/docs/interactions.

Agents run in the background; their results are retrieved later.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from ..call import Operation, TokenType
from .fields import Json, count, decoder, error_code, mapping, sequence, text
from .gemini import MAPS_SEARCHES, RETRIEVALS, Part, by_modality, disjoint, grounding_units
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
    search_type: Any = None


class _Event(msgspec.Struct):
    event_type: Any = None
    interaction: msgspec.Raw = msgspec.Raw()
    step: Any = None
    delta: Any = None
    error: Any = None


_decode_interaction: Final = decoder(_Interaction)
_decode_steps: Final = decoder(list[_Step])
_decode_event: Final = decoder(_Event)


_WEB: Final = "web_searches"
_ENTERPRISE: Final = "enterprise_web_searches"
_UNITS: Final = {"google_search_call": _WEB, "google_maps_call": MAPS_SEARCHES}
"""The units of the steps that are billed by query."""

_CALLS_GOOGLE: Final = re.compile(rb'"google_(?:search|maps)_call"')


class InteractionsReader(Reader):
    """Interactions. In a stream, the last event has the usage and earlier ones have the steps."""

    operation: ClassVar[Operation] = "generate_content"

    def __init__(self) -> None:
        super().__init__()
        self._queries: set[tuple[str, str]] = set()

    @override
    def read_request(self, request: Json) -> None:
        self.reading.service_tier = text(request.get("service_tier")) or None

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usage"' in data or _CALLS_GOOGLE.search(data) is not None or b'"error"' in data

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
        if _CALLS_GOOGLE.search(steps):
            for step in _decode_steps(steps):
                self._note_queries(
                    {"type": step.type, "arguments": step.arguments, "search_type": step.search_type}
                )
        if usage := mapping(part.usage):
            reading.tokens = tokens_of(usage)
            reading.units = self._units(usage)

    def _units(self, usage: Json) -> dict[str, float]:
        noted = Counter(unit for unit, _ in self._queries)
        if not (noted[_WEB] or noted[_ENTERPRISE]):
            noted[_WEB] = _grounding_count(usage, "google_search")
        noted[MAPS_SEARCHES] = noted[MAPS_SEARCHES] or _grounding_count(usage, "google_maps")
        noted[RETRIEVALS] = _grounding_count(usage, "retrieval")
        return grounding_units(self.reading.model, noted)

    def _note_queries(self, step: Json) -> None:
        """Note the search queries of a step. Steps arrive before the usage."""
        if unit := _UNITS.get(text(step.get("type"))):
            if step.get("search_type") == "enterprise_web_search":
                unit = _ENTERPRISE
            queries = sequence(mapping(step.get("arguments")).get("queries"))
            self._queries.update((unit, query) for query in map(text, queries) if query)


class RetrievedInteractionReader(InteractionsReader):
    """The retrieval of an interaction that an earlier request started."""

    is_retrieval = True


class GoogleDecisionReader(InteractionsReader):
    """Answers to questions about an input: the resource `decisions` of google-genai 3."""

    operation = "decision"


def _grounding_count(usage: Json, kind: str) -> int:
    """Return how often a tool was used for grounding, for responses without the queries."""
    tools = map(mapping, sequence(usage.get("grounding_tool_count")))
    return sum(count(tool.get("count")) for tool in tools if tool.get("type") == kind)


def tokens_of(usage: Json) -> dict[TokenType, int]:
    """Return the disjoint tokens of a `usage` object; its counts relate as in Gemini's `usageMetadata`."""

    def part(name: str) -> Part:
        details = usage.get(f"{name}_tokens_by_modality")
        return Part(count(usage.get(f"total_{name}_tokens")), by_modality(details, "tokens"))

    thoughts = count(usage.get("total_thought_tokens"))
    return disjoint(part("input"), part("cached"), part("tool_use"), part("output"), thoughts)
