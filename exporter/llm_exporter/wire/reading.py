"""What a wire reader makes of an answer, and the arithmetic that all of them share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from ..call import TokenType

Json = dict[str, Any]
T = TypeVar("T")

_NO_TEXT: Final = frozenset(
    {
        "model",
        "role",
        "type",
        "id",
        "data",
        "url",
        "image_url",
        "file_data",
        "media_type",
        "mime_type",
        "signature",
    }
)
"""Names of fields that hold no text a model reads or writes."""

MAX_COUNT: Final = 10**12
"""No request has a trillion tokens: a larger count is damage, and must not reach a counter."""


@dataclass(slots=True)
class Reading:
    """What one answer says about the call."""

    model: str = ""
    tokens: dict[TokenType, int] | None = None
    """Tokens by type, zeros left out; None while the provider has reported no usage."""
    units: dict[str, float] = field(default_factory=dict)
    """What else is billed, by genai-prices unit."""
    reported_cost: float | None = None
    """USD as the answer says it."""
    service_tier: str | None = None
    speed: str | None = None
    response_id: str = ""
    """The provider's id of the answer, where another request may bring the same answer again."""
    operation: str = ""
    """What was asked for, where it is not the same as in the request."""
    pending: bool = False
    """The provider is still at work: another request will bring the answer."""
    error: str | None = None
    """The error type or code inside an answer that began as a success."""
    token_seen: bool = False
    """Whether the first generated token of a stream has come."""
    sub_calls: list[Reading] = field(default_factory=list)
    """Calls the provider made on the way and bills apart, such as an advisor's, and those of a batch."""


class Reader(ABC):
    """Reads the answer of one call in one wire format, whole or event by event, from bytes alone.

    A reader may raise on a body that is not of its format: whoever feeds it catches.
    """

    operation: ClassVar[str]
    """The `operation` label, in the terms of OpenTelemetry's `gen_ai.operation.name`."""

    free: ClassVar[bool] = False
    """Whether such a call uses nothing that is billed, so that no usage is missed."""

    lines: ClassVar[bool] = False
    """Whether the answer is JSON lines, each of which is an event."""

    messages: ClassVar[bool] = False
    """Whether the answer is messages of a WebSocket, each of which is an event."""

    retrieves: ClassVar[bool] = False
    """Whether the request only fetches what others have asked for, and so is no call itself."""

    batch: ClassVar[bool] = False
    """Whether the answer holds the answers of a batch."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.first_text = 0
        """Bytes of text in the event of the first token."""
        self.text_seen = 0
        """Bytes of generated text, where the answer is messages."""

    def asked(self, request: Json) -> None:  # noqa: B027 - most answers say all there is
        """Read what the request says and the answer does not."""

    @abstractmethod
    def telling(self, data: bytes) -> bool:
        """Whether stream events can carry usage or an error, by the cheapest look that never misses one.

        Other events need no parsing once the first token was seen, which is what keeps a long stream cheap.
        A quoted key cannot stand inside a JSON string, where its quotes would be escaped.
        """

    @abstractmethod
    def body(self, data: bytes) -> None:
        """Read a whole answer."""

    @abstractmethod
    def event(self, data: bytes) -> None:
        """Read the JSON of one stream event."""

    def saw_token(self, generated: object) -> None:
        """Note the first token of the stream, from what an event says was generated; nothing is no token."""
        if generated and not self.reading.token_seen:
            self.reading.token_seen = True
            self.first_text = text_length(generated)


def text_length(value: object) -> int:
    """Return the length of the text in a JSON value, without what is not text, such as an inline image."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    length = 0
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in _NO_TEXT:
                length += text_length(each)
    elif isinstance(value, list):
        for each in value:
            length += text_length(each)
    return length


def count(value: object) -> int:
    """Return a token count as it stands in a body, or 0 for anything that is not one."""
    # Nearly all are plain integers or not there, and every answer has a dozen.
    if type(value) is int or type(value) is float:
        return int(value) if 0 < value <= MAX_COUNT else 0  # NaN compares false
    return 0


def amount(value: object) -> float | None:
    """Return an amount of money as it stands in a body, or None for anything that is not one."""
    if type(value) is int or type(value) is float:
        return float(value) if 0 <= value <= MAX_COUNT else None
    return None


def first_count(body: Json, *names: str) -> int:
    """Return the first of several spellings of a count that is not zero, or 0."""
    for name in names:
        if found := count(body.get(name)):
            return found
    return 0


def mapping(value: object) -> Json:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a JSON array, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Return a JSON string, or an empty one for anything else."""
    return value if isinstance(value, str) else ""


def split(total: int, **parts: int) -> dict[str, int]:
    """Split a total into named parts and a `rest`, never giving out more than there is.

    The details that providers send need not add up to the count they belong to: the count holds.
    """
    for name, part in parts.items():
        if part > total:
            parts[name] = total
        total -= parts[name]
    parts["rest"] = total
    return parts


def without_zeros(tokens: dict[TokenType, int]) -> dict[TokenType, int]:
    """Return the types that have tokens."""
    return {kind: number for kind, number in tokens.items() if number}


_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NO_NUMBER: Final = re.compile(rb"(?<=[:\[,\s])(?:NaN|-?Infinity)(?=[,\]}\s])")


def decoder(wanted: type[T]) -> Callable[[bytes], T]:
    """Return a function that decodes some fields of a JSON object, and passes over the others.

    Like the SDKs, and unlike the standard, it takes half a surrogate pair (a character cut in two by a delta)
    and NaN; what stands in their place matters to no count.
    """
    decode = msgspec.json.Decoder(wanted).decode

    def lenient(data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return decode(_NO_NUMBER.sub(b"null", _SURROGATE.sub(b"?", data)))

    return lenient


def error_code(error: object) -> str | None:
    """Return the type, code or message of an error object as the three providers write it, or None."""
    if not error:
        return None
    details = mapping(error)
    for name in ("type", "status", "code", "message"):
        if details.get(name):
            return str(details[name])
    return str(error)
