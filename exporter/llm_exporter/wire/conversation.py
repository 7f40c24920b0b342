"""A WebSocket connection, over which any number of calls run one after another or concurrently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from typing_extensions import override

from .fields import Json, text
from .reader import Reader
from .text_length import text_length


class CallMessage(NamedTuple):
    """The call that a received message belongs to."""

    key: str
    """Distinguishes the calls in progress on this connection."""
    reader: type[TurnReader]
    """The reader of the call's messages."""
    requested_model: str = ""
    model: str = ""
    """The model that answers, according to earlier messages."""
    starts: bool = False
    """Whether the message starts the call unless it is already in progress."""
    ends: bool = False
    """Whether the message ends the call."""


class GenerationRequest(NamedTuple):
    """What a sent message asks the provider to generate."""

    reader: type[TurnReader]
    model: str


class Conversation(ABC):
    """Assigns the messages of one WebSocket connection to calls.

    Args:
        model: the model that the connection was opened for; empty if none was named.
    """

    def __init__(self, model: str) -> None:
        self._requested_model = model

    @abstractmethod
    def parse_received(self, message: bytes) -> CallMessage | None:
        """Return the call that a received message belongs to, or None if it concerns no call.

        May raise on a message in another format. The caller must catch the exception.
        """

    @abstractmethod
    def parse_sent(self, message: bytes) -> GenerationRequest | None:
        """Return what a sent message asks the provider to generate, or None if nothing.

        Audio counts as a request: the provider answers it once it detects the end of speech.
        May raise on a message in another format. The caller must catch the exception.
        """


class TurnReader(Reader):
    """Reads the messages of one call."""

    is_websocket = True

    @override
    def read_request(self, request: Json) -> None:
        # The messages of the call need not name the model.
        self.reading.model = text(request.get("model"))

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True  # the conversation has already dropped other messages

    @override
    def note_generated(self, generated: object) -> None:
        super().note_generated(generated)
        self.generated_length += text_length(generated)
