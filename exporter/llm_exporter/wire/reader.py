"""`Reader`, the base class of the readers for each wire format, and `Reading`, its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

from ..call import Operation, TokenType
from .fields import Json
from .text_length import text_length


class Reading(msgspec.Struct):
    """What a response says about its call."""

    model: str = ""
    """The model that answered; empty if the response does not name it."""
    tokens: dict[TokenType, int] | None = None
    """Tokens by type, without zeros; None until the provider reports usage."""
    units: dict[str, float] = {}
    """Other billed usage, by genai-prices unit."""
    reported_cost: float | None = None
    """The cost in USD, if the response reports one."""
    reported_costs: dict[str, float] = {}
    """The parts of `reported_cost`, if the response splits it: `input` (the prompt), `output` and `tools`."""
    states_usd: bool = False
    """Whether the response names USD as the unit of `reported_cost`."""
    containers: dict[str, str] = {}
    """The units of the containers that the call ran code in, by their ids. Each is billed once."""
    service_tier: str | None = None
    """The service tier that served the request, or else the requested one."""
    speed: str | None = None
    """Anthropic's speed mode, if the response names it."""
    region: str = ""
    """The region or data zone that served the request, if the response names it."""
    response_id: str = ""
    """The provider's id of the response, if it can be retrieved again."""
    operation: Operation | None = None
    """The operation of a sub-call, if it may differ from the reader's."""
    pending: bool = False
    """Whether the response is still being generated and must be retrieved later."""
    error: str | None = None
    """The error type or code inside a response with a success status."""
    token_seen: bool = False
    """Whether the first generated token of a stream has arrived."""
    sub_calls: list[Reading] = []
    """Calls within the response that are billed separately: an advisor's, or those of a batch."""


class Reader(ABC):
    """Reads one response in one wire format, either as a whole or event by event.

    A reader may raise on a response that is not in its format. The caller must catch the exception.
    """

    operation: ClassVar[Operation]
    """The `operation` label, with OpenTelemetry's `gen_ai.operation.name` values where they exist."""

    is_free: ClassVar[bool] = False
    """Whether the provider does not bill the call, so that a missing usage is not an error."""

    is_json_lines: ClassVar[bool] = False
    """Whether the response is JSON lines, each of which is an event."""

    is_websocket: ClassVar[bool] = False
    """Whether the response consists of WebSocket messages, each of which is an event."""

    is_retrieval: ClassVar[bool] = False
    """Whether the request retrieves the result of an earlier call and is not a call itself."""

    is_running_total: ClassVar[bool] = False
    """Whether the tokens include those of earlier responses with the same id."""

    is_batch: ClassVar[bool] = False
    """Whether the response holds the results of a batch."""

    is_text: ClassVar[bool] = True
    """Whether the model is billed for text, so that tokens can be estimated from it."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.first_token_length = 0
        """Characters of text in the event with the first token."""
        self.generated_length = 0
        """Characters of generated text; counted for WebSockets only."""

    def read_request(self, request: Json) -> None:  # noqa: B027 - most responses are self-contained
        """Read from the request what the response leaves out."""

    def read_url(self, url: str) -> None:  # noqa: B027 - most responses name their object
        """Read from the URL of the request what the response leaves out."""

    @abstractmethod
    def may_carry_usage(self, data: bytes) -> bool:
        """Return whether stream events may contain usage or an error.

        This check must be cheap and must not miss any. After the first token, all other events are skipped
        without parsing, which keeps long streams cheap. A quoted key cannot occur inside a JSON string, where
        its quotes would be escaped.
        """

    def latest_usage(self, events: bytes) -> int:
        """Return where the last usage is in stream events, if it makes all events before it superfluous.

        Returns:
            Its index, or that of any byte of the same event; 0 if the other events matter, too.
        """
        return 0

    @abstractmethod
    def read_body(self, data: bytes) -> None:
        """Read a complete response."""

    @abstractmethod
    def read_event(self, data: bytes) -> None:
        """Read the JSON of one stream event."""

    def note_generated(self, generated: object) -> None:
        """Note the first token of the stream.

        Args:
            generated: the generated content of an event; an empty value is not a token.
        """
        if generated and not self.reading.token_seen:
            self.reading.token_seen = True
            self.first_token_length = text_length(generated)
