"""Makes OpenAI's chat streams report their usage, without the caller noticing.

A stream reports usage only on request, in a last chunk without choices
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options). If the caller does
not request it, we do, and remove that chunk from what the caller sees.
"""

from __future__ import annotations

import re
from typing import Any, Final

from ..wire.framing import last_blank_line

_REJECT_OPTION: Final = frozenset({"mistral", "perplexity"})
"""Providers that reject the option; both report usage without it."""

_AZURE_SINCE: Final = "2024-09-01"
"""The first API version of Azure OpenAI that accepts the option."""

_NO_CHOICES: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE: Final = re.compile(rb'"usage"\s*:\s*\{')
_EVENT: Final = re.compile(rb".*?(?>\r\n|\r|\n){2,}", re.DOTALL)


def request_usage(body: Any, provider: str, api_version: str | None) -> dict[str, Any] | None:
    """Return a copy of a chat request that also requests usage, or None if the request must stay as it is.

    Args:
        body: the request's JSON; it is not changed.
        provider: the id of the provider.
        api_version: the API version of Azure OpenAI; None for others.
    """
    if not isinstance(body, dict) or body.get("stream") is not True or provider in _REJECT_OPTION:
        return None
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or "include_usage" in options):
        return None
    if api_version is not None and api_version < _AZURE_SINCE:
        return None
    return {**body, "stream_options": {**(options or {}), "include_usage": True}}


class UsageChunkFilter:
    """Removes the usage chunk from a stream of server-sent events.

    Complete events pass at once. An incomplete event, which the caller could not use yet, is held until it is
    complete.
    """

    def __init__(self) -> None:
        self.held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what the caller may see now that a chunk has arrived."""
        if not self.held and chunk.endswith(b"\n\n") and not _NO_CHOICES.search(chunk):
            return chunk  # most chunks are complete events
        data = self.held + chunk
        end = max(last_blank_line(data), 0)
        visible = self._without_usage(data[:end])
        self.held = data[end:]
        return visible

    def end(self) -> bytes:
        """Return what is still held at the end of the stream."""
        visible = self._without_usage(self.held)
        self.held = b""
        return visible

    def _without_usage(self, events: bytes) -> bytes:
        if not _NO_CHOICES.search(events):
            return events
        return b"".join(event for event in _events(events) if not _is_usage(event))


def _events(data: bytes) -> list[bytes]:
    complete = _EVENT.findall(data)
    return [*complete, data[sum(map(len, complete)) :]]


def _is_usage(event: bytes) -> bool:
    return _NO_CHOICES.search(event) is not None and _USAGE.search(event) is not None
