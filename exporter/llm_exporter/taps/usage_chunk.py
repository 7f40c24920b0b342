"""Makes OpenAI's chat streams report their usage, without the caller noticing.

A stream reports usage only on request, in an extra chunk without choices
(https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options). If the caller does
not request it, we do, and remove that chunk from what the caller sees.

The option can break a call, so only services that document it are asked. A service that still rejects it
gets the caller's own request instead, and is not asked again by this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final

import msgspec

from ..client.meter import Meter
from ..log import log
from ..pricing.endpoint import Endpoint
from ..wire.framing import last_blank_line

ACCEPTING: Final = {
    "openai": "https://platform.openai.com/docs/api-reference/chat/create#chat-create-stream_options",
    "azure": "https://learn.microsoft.com/en-us/answers/questions/2007680",
    "ollama": "https://docs.ollama.com/api/openai-compatibility",
    "vllm": "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
}
"""Providers that accept the option and report usage in an extra chunk, only on request; and the source.

DeepSeek, Groq, Hugging Face, OpenRouter, Together and xAI report usage without a request. Asking them gains
nothing, and a usage chunk that they send anyway is the caller's.
"""

_REJECTING: Final = frozenset({"databricks", "mistral", "perplexity"})
"""Providers that reject the option, and report usage without it."""

_AZURE_SINCE: Final = "2024-09-01"
"""The first API version of Azure OpenAI that accepts the option."""

_AZURE_ON_YOUR_DATA: Final = "data_sources"
"""A request with this field must not have it: https://learn.microsoft.com/en-us/answers/questions/2280689."""

REJECTED: Final = (400, 422)
"""The HTTP statuses of a request with an unknown field."""

_MARK: Final = b'"prompt_tokens"'
"""Part of every usage object, and never of generated text, where quotes are escaped."""

_MAX_EVENT: Final = 64 * 1024
"""The largest incomplete event in bytes that is held. A usage chunk has about 500 bytes."""

_FEW: Final = 1024
"""Events of at most so many bytes are looked at one by one."""

_USUAL: Final = frozenset(
    {
        *("id", "object", "created", "model", "choices", "usage"),
        *("service_tier", "system_fingerprint", "obfuscation"),
        "latency_checkpoint",  # Azure, in its usage chunk only
    }
)
"""The fields of a usage chunk. A chunk with content in another field is shown to the caller."""

rejecting_hosts: Final[set[str]] = set()
"""Hosts that have rejected the option in this process."""


def may_ask(endpoint: Endpoint, ask_for_usage: bool | None) -> bool:
    """Return whether to request usage from an endpoint.

    Args:
        endpoint: where the call goes.
        ask_for_usage: True to request it from unknown services too, False never to request it.
    """
    if ask_for_usage is None:
        return endpoint.is_known and endpoint.provider in ACCEPTING
    return ask_for_usage and endpoint.provider not in _REJECTING


class UsageRequest:
    """Our request for the usage of one stream.

    Args:
        body: the JSON of the caller's request; it is not changed.
        host: the host and port of the service.
    """

    def __init__(self, body: Mapping[str, Any], host: str) -> None:
        self._original = body
        self._host = host
        self.body = {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
        """The JSON to send instead."""

    def withdraw(self, content: bytes) -> bytes:
        """Return the content of a request as the caller made it.

        Later attempts of the SDK do not ask either: `body` becomes the caller's.
        """
        sent = json.loads(content)
        restored = json.dumps(self._restored(sent), ensure_ascii=False, separators=(",", ":")).encode()
        self._restored(self.body)
        return restored

    def withdrawn(self, response: Any) -> None:
        """Never ask the host again, if it accepts the caller's own request.

        Otherwise the option was not the reason: some services quote the request in every error.

        Args:
            response: the response to the caller's own request.
        """
        if response.status_code < 400 and self._host not in rejecting_hosts:
            rejecting_hosts.add(self._host)
            log.warning(
                "llm-exporter: %s rejects stream_options.include_usage and is no longer asked for usage",
                self._host,
            )

    def _restored(self, body: dict[str, Any]) -> dict[str, Any]:
        if "stream_options" in self._original:
            body["stream_options"] = self._original["stream_options"]
        else:
            body.pop("stream_options", None)
        return body


def usage_request(body: Any, extra: Any, base_url: Any, api_version: str | None) -> UsageRequest | None:
    """Return a request for usage to add to a chat request, or None if the request must stay as it is.

    Args:
        body: the request's JSON.
        extra: fields that the caller adds to the JSON (`extra_body`).
        base_url: the client's base URL, as an object of httpx or httpx2.
        api_version: the API version of Azure OpenAI; None for others.
    """
    if not is_streamed(body) or not _can_be_added(body, extra):
        return None
    if api_version is not None and api_version < _AZURE_SINCE:
        return None
    host = base_url.netloc.decode()
    return None if host in rejecting_hosts else UsageRequest(body, host)


def is_streamed(body: Any) -> bool:
    """Return whether the JSON of a request asks for a stream."""
    return isinstance(body, dict) and body.get("stream") is True


def _can_be_added(body: Mapping[str, Any], extra: Any) -> bool:
    if isinstance(extra, Mapping) and ("stream_options" in extra or _AZURE_ON_YOUR_DATA in extra):
        return False
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or "include_usage" in options):
        return False
    return _AZURE_ON_YOUR_DATA not in body


def without_usage_request(request: Any, response: Any, meter: Meter) -> Any:
    """Return the request to send instead of one that was rejected because we requested usage.

    Args:
        request: the request of httpx or httpx2 that was sent.
        response: the response to it, which has been read.
        meter: the meter of the call, whose `usage_request` is ours.

    Returns:
        A request as the caller made it; None if the response has another reason.
    """
    if b"stream_options" not in response.content and b"include_usage" not in response.content:
        return None
    content = meter.usage_request.withdraw(request.content)
    meter.filter = meter.usage_request = None
    headers = request.headers.copy()
    headers["content-length"] = str(len(content))
    return type(request)(
        request.method, request.url, headers=headers, content=content, extensions=request.extensions
    )


class UsageChunkFilter:
    """Removes the usage chunk from a stream of server-sent events.

    Complete events pass at once. An incomplete event, which the caller could not use yet, is held until it is
    complete or too long to be the usage chunk. An event that cannot be judged passes.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        """The incomplete event."""
        self._size = 0
        self._seam = b""
        """The last two bytes before the next chunk: a blank line may be split between two chunks."""
        self._passing = False
        """Whether the beginning of the incomplete event has passed, so that the rest must."""

    @property
    def held(self) -> bytes:
        """The bytes that are neither passed on nor removed yet."""
        return b"".join(self._pieces)

    def feed(self, chunk: bytes) -> bytes:
        """Return what the caller may see now that a chunk has arrived."""
        if not self._seam and chunk.endswith(b"\n\n"):  # most chunks are complete events
            return chunk if chunk.rfind(_MARK) < 0 else _without_usage(chunk)
        end = last_blank_line(chunk)
        if end < 0 and self._seam:
            end = last_blank_line(self._seam + chunk[:2]) - len(self._seam)
        if end <= 0:
            return self._keep(chunk)
        visible = _without_usage(self._release() + chunk[:end])
        self._passing, self._seam = False, b""
        return visible + self._keep(chunk[end:]) if end < len(chunk) else visible

    def end(self) -> bytes:
        """Return what is still held at the end of the stream."""
        return _without_usage(self._release())

    def _keep(self, incomplete: bytes) -> bytes:
        self._seam = (self._seam + incomplete[-2:])[-2:]
        if self._passing:
            return incomplete
        self._pieces.append(incomplete)
        self._size += len(incomplete)
        if self._size <= _MAX_EVENT:
            return b""
        self._passing = True
        return self._release()

    def _release(self) -> bytes:
        held = self.held
        self._pieces.clear()
        self._size = 0
        return held


def _without_usage(events: bytes) -> bytes:
    """Return events without those that are usage chunks. Many are halved until few of them are looked at."""
    if events.rfind(_MARK) < 0:  # takes a third of the time of `in`
        return events
    if len(events) > _FEW and (middle := last_blank_line(events[: len(events) // 2])) > 0:
        return _without_usage(events[:middle]) + _without_usage(events[middle:])
    return b"".join(event for event in _events(events) if not _is_usage(event))


def _events(data: bytes) -> Iterator[bytes]:
    """Yield the events, each with the blank line at its end."""
    event: list[bytes] = []
    for ended_by_lf in BytesIO(data):
        for line in ended_by_lf.splitlines(keepends=True):
            event.append(line)
            if not line.strip(b"\r\n"):
                yield b"".join(event)
                event.clear()
    yield b"".join(event)


def _is_usage(event: bytes) -> bool:
    """Return whether an event is a chunk with usage and nothing else."""
    if _MARK not in event or len(event) > _MAX_EVENT:
        return False
    data = b"\n".join(line[5:] for line in event.splitlines() if line.startswith(b"data:"))
    try:
        chunk = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return (
        isinstance(chunk, dict)
        and chunk.get("choices") == []
        and isinstance(chunk.get("usage"), dict)
        and not any(value for name, value in chunk.items() if name not in _USUAL)
    )
