"""Has OpenAI's chat streams report their usage, without the caller noticing.

A stream reports usage only when it is asked to, in a last chunk that has no choices
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options). Where the caller does
not ask, we do, and take that chunk out again.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..wire.framing import last_blank_line

_REFUSE: Final = frozenset({"mistral", "perplexity"})
"""Providers that refuse the option; both report usage unasked."""

_AZURE_SINCE: Final = "2024-09-01"
"""The first api-version of Azure that knows the option."""

_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_EVENT: Final = re.compile(rb".*?(?>\r\n|\r|\n){2,}", re.DOTALL)


def ask(body: Any, provider: str, api_version: str | None) -> dict[str, Any] | None:
    """Return the body of a chat request as it asks for usage, or None where it is to stay as it is.

    Args:
        body: the request's JSON; it is not changed.
        provider: who is asked.
        api_version: Azure's, if it is Azure that is asked.
    """
    if not isinstance(body, dict) or body.get("stream") is not True or provider in _REFUSE:
        return None
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or "include_usage" in options):
        return None
    if api_version is not None and api_version < _AZURE_SINCE:
        return None
    return {**body, "stream_options": {**(options or {}), "include_usage": True}}


class UsageChunkFilter:
    """Takes the usage chunk out of a stream of server-sent events.

    Whole events pass at once; of an incomplete one, of which the caller could make nothing yet, the rest is
    waited for.
    """

    def __init__(self) -> None:
        self.held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what the caller is to see of the stream so far, beyond what was returned before."""
        if not self.held and chunk.endswith(b"\n\n") and not _NO_CHOICES.search(chunk):
            return chunk  # most are whole events
        data = self.held + chunk
        end = max(last_blank_line(data), 0)
        visible = self._without_usage(data[:end])
        self.held = data[end:]
        return visible

    def end(self) -> bytes:
        """Return what was held, when there will be no more."""
        visible = self._without_usage(self.held)
        self.held = b""
        return visible

    def _without_usage(self, events: bytes) -> bytes:
        if not _NO_CHOICES.search(events):
            return events
        return b"".join(event for event in _events(events) if not _is_usage(event))


def _events(data: bytes) -> list[bytes]:
    whole = _EVENT.findall(data)
    return [*whole, data[sum(map(len, whole)) :]]


def _is_usage(event: bytes) -> bool:
    return _NO_CHOICES.search(event) is not None and _USAGE.search(event) is not None
