"""What all wire formats have in common."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Final

from ..completions import Completion, Fault, Prompt, ProviderError

Json = dict[str, Any]
_MINUTE: Final = 60.0


class Quota:
    """A limit per minute that refills continuously."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._used = 0.0
        self._at = time.monotonic()

    def use(self, amount: int) -> None:
        """Use an amount of the quota."""
        now = time.monotonic()
        self._used = max(self._used - (now - self._at) * self.limit / _MINUTE, 0) + amount
        self._at = now

    @property
    def remaining(self) -> int:
        """The amount left."""
        return max(int(self.limit - self._used), 0)

    @property
    def reset_after(self) -> float:
        """Seconds until the whole quota is available again."""
        return self._used * _MINUTE / self.limit


class WireFormat(ABC):
    """A wire format.

    Args:
        requests: the account's quota of requests. Formats of one provider may share it.
        tokens: the account's quota of tokens, likewise.
    """

    statuses: ClassVar[dict[Fault, int]]
    """The HTTP status of each fault."""

    def __init__(self, requests: Quota, tokens: Quota) -> None:
        self.requests = requests
        self.tokens = tokens

    @abstractmethod
    def prompt(self, request: Json) -> Prompt:
        """Parse a request body."""

    @abstractmethod
    def response(self, completion: Completion) -> Json:
        """Return the body of a response."""

    @abstractmethod
    def events(self, completion: Completion, request: Json) -> Iterator[str]:
        """Yield a streamed response as server-sent events."""

    @abstractmethod
    def error(self, error: ProviderError) -> Json:
        """Return the body of an error response."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the headers of every response."""

    def retry_headers(self, seconds: float) -> dict[str, str]:
        """Return the headers that tell the client when to retry."""
        return {"retry-after": f"{seconds:g}"}


def text_of(node: object) -> str:
    """Return all text in a message. It is nested in fields that each format names differently."""
    match node:
        case str():
            return node
        case list():
            return "".join(map(text_of, node))
        case {"text": inner} | {"content": inner} | {"parts": inner}:
            return text_of(inner)
    return ""


def server_sent_event(data: Json, name: str | None = None) -> str:
    """Return a server-sent event with JSON data."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n"
