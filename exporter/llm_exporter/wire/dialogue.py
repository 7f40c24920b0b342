"""What goes over one WebSocket: any number of calls, one after the other or at the same time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from .reading import Json, Reader, text, text_length


class Part(NamedTuple):
    """Where a message belongs."""

    key: str
    """Tells apart the calls that are under way at the same time."""
    reader: type[TurnReader]
    """What reads the call's messages."""
    asked: str = ""
    """The model asked for."""
    model: str = ""
    """The model that answers, by what was said before."""
    begins: bool = False
    """Whether a call begins here, if none is under way."""
    ends: bool = False
    """Whether it ends here."""


class Asked(NamedTuple):
    """What a message to the provider asks for."""

    reader: type[TurnReader]
    model: str


class Dialogue(ABC):
    """Tells which messages from a provider's side of a WebSocket belong to which call.

    Args:
        asked: the model that the connection was opened for, if it was for one.
    """

    def __init__(self, asked: str) -> None:
        self._asked = asked

    @abstractmethod
    def part(self, message: bytes) -> Part | None:
        """Return where a message belongs, or None for one that says nothing of a call.

        It may raise on a message that is not of its format: whoever asks catches.
        """

    @abstractmethod
    def asks(self, message: bytes) -> Asked | None:
        """Return what a message to the provider asks for, or None where nothing is generated for it.

        Sound that is sent asks, too: the provider answers it when it thinks that the speaker has ended.
        It may raise as `part` may.
        """


class TurnReader(Reader):
    """Reads the messages of one call."""

    messages: ClassVar[bool] = True

    def asked(self, request: Json) -> None:
        """Take the model, which the messages of the call itself may not tell."""
        self.reading.model = text(request.get("model"))

    def telling(self, data: bytes) -> bool:
        """See `Reader.telling`: the dialogue has looked already."""
        return True

    def saw_token(self, generated: object) -> None:
        """Note generated tokens, and their text in case that no usage comes."""
        super().saw_token(generated)
        self.text_seen += text_length(generated)
