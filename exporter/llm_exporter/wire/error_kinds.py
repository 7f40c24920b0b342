"""Derives the kind of an error from an HTTP status, an error code in a response, or an exception."""

from __future__ import annotations

from typing import Final

from ..call import ErrorKind

_KINDS_BY_STATUS: Final[dict[int, ErrorKind]] = {
    401: "auth",
    403: "auth",
    404: "not_found",
    407: "auth",
    408: "timeout",
    429: "rate_limited",
    499: "cancelled",
    503: "overloaded",
    504: "timeout",
    529: "overloaded",
}


def kind_of_status(status: int) -> ErrorKind:
    """Return the error kind of an HTTP status.

    Sources: https://platform.openai.com/docs/guides/error-codes,
    https://docs.claude.com/en/api/errors, https://ai.google.dev/gemini-api/docs/troubleshooting.
    """
    if kind := _KINDS_BY_STATUS.get(status):
        return kind
    return "server_error" if status >= 500 else "invalid_request"


_KINDS_BY_WORD: Final[tuple[tuple[str, ErrorKind], ...]] = (
    ("rate_limit", "rate_limited"),
    ("rate limit", "rate_limited"),
    ("too_many", "rate_limited"),
    ("throttl", "rate_limited"),
    ("slow_down", "rate_limited"),
    ("resource_exhausted", "rate_limited"),
    ("quota", "rate_limited"),
    ("overloaded", "overloaded"),
    ("unavailable", "overloaded"),
    ("timeout", "timeout"),
    ("deadline", "timeout"),
    ("cancelled", "cancelled"),
    ("auth", "auth"),
    ("api_key", "auth"),
    ("billing", "auth"),
    ("permission", "auth"),
    ("not_found", "not_found"),
    ("invalid", "invalid_request"),
    ("validation", "invalid_request"),  # Bedrock
    ("too_large", "invalid_request"),
    ("context_length", "invalid_request"),
    ("precondition", "invalid_request"),
    ("server_error", "server_error"),
    ("streamerror", "server_error"),  # Bedrock
    ("api_error", "server_error"),
    ("internal", "server_error"),
)


def kind_of_code(code: str) -> ErrorKind:
    """Return the error kind of a provider's error type, status or code."""
    if code.isdecimal() and len(code) == 3:
        return kind_of_status(int(code))
    lowered = code.lower()
    return next((kind for word, kind in _KINDS_BY_WORD if word in lowered), "unknown")


_KINDS_BY_EXCEPTION: Final[dict[str, ErrorKind]] = {
    # The first match wins: aiohttp's timeouts are ClientErrors too.
    "CancelledError": "cancelled",
    "GeneratorExit": "cancelled",  # a coroutine that is abandoned
    "KeyboardInterrupt": "cancelled",
    "SystemExit": "cancelled",
    "TimeoutException": "timeout",  # httpx
    "TimeoutError": "timeout",
    "Timeout": "timeout",  # requests
    "TransportError": "connection",  # httpx
    "ClientError": "connection",  # aiohttp
    "OSError": "connection",  # requests' exceptions are OSErrors too
    "ConnectionClosed": "connection",  # websockets
}


def kind_of_exception(error: BaseException) -> ErrorKind:
    """Return the error kind of an exception raised by any HTTP client.

    Classes are matched by name, so that no client needs to be imported.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    return next((kind for name, kind in _KINDS_BY_EXCEPTION.items() if name in names), "unknown")
