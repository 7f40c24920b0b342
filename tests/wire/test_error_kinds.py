"""Error kinds of HTTP statuses, error codes and exceptions."""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent import futures
from typing import get_args

import aiohttp
import httpx
import httpx2
import pytest
import requests
import websockets
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.call import ErrorKind
from llm_exporter.wire.error_kinds import kind_of_code, kind_of_exception, kind_of_status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request"),
        (401, "auth"),
        (402, "invalid_request"),
        (403, "auth"),
        (404, "not_found"),
        (405, "invalid_request"),
        (407, "auth"),
        (408, "timeout"),
        (409, "invalid_request"),
        (413, "invalid_request"),
        (422, "invalid_request"),
        (429, "rate_limited"),
        (500, "server_error"),
        (501, "server_error"),
        (502, "server_error"),
        (503, "overloaded"),
        (504, "timeout"),
        (520, "server_error"),
        (529, "overloaded"),
        (599, "server_error"),
    ],
)
def test_kind_of_status(status: int, kind: ErrorKind) -> None:
    """Statuses that no provider documents are client or server errors."""
    assert kind_of_status(status) == kind
    assert kind_of_code(str(status)) == kind


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        # OpenAI and compatible services
        ("rate_limit_exceeded", "rate_limited"),
        ("rate_limit_error", "rate_limited"),
        ("insufficient_quota", "rate_limited"),
        ("invalid_request_error", "invalid_request"),
        ("invalid_prompt", "invalid_request"),
        ("model_not_found", "not_found"),
        ("server_error", "server_error"),
        ("engine_overloaded_error", "overloaded"),
        ("502", "server_error"),
        ("429", "rate_limited"),
        # Anthropic
        ("overloaded_error", "overloaded"),
        ("api_error", "server_error"),
        ("authentication_error", "auth"),
        ("permission_error", "auth"),
        ("not_found_error", "not_found"),
        ("timeout_error", "timeout"),
        # Bedrock
        ("throttlingException", "rate_limited"),
        ("validationException", "invalid_request"),
        ("modelStreamErrorException", "server_error"),
        ("internalServerException", "server_error"),
        ("serviceUnavailableException", "overloaded"),
        ("modelTimeoutException", "timeout"),
        # Google
        ("RESOURCE_EXHAUSTED", "rate_limited"),
        ("UNAVAILABLE", "overloaded"),
        ("DEADLINE_EXCEEDED", "timeout"),
        ("UNAUTHENTICATED", "auth"),
        ("PERMISSION_DENIED", "auth"),
        ("NOT_FOUND", "not_found"),
        ("INVALID_ARGUMENT", "invalid_request"),
        ("INTERNAL", "server_error"),
        # unknown
        ("error", "unknown"),
        ("", "unknown"),
        ("something new", "unknown"),
    ],
)
def test_kind_of_an_error_code(code: str, kind: ErrorKind) -> None:
    """The code is a provider's error type, status or code."""
    assert kind_of_code(code) == kind


@settings(deadline=None)
@given(st.text(max_size=20))
def test_kind_of_any_text_is_one_of_the_kinds(code: str) -> None:
    """A response may contain any error code."""
    assert kind_of_code(code) in get_args(ErrorKind)


class CustomError(Exception):
    """An exception that an application raises in a hook."""


REQUEST = httpx.Request("POST", "https://acme.example")
REQUEST2 = httpx2.Request("POST", "https://acme.example")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectTimeout("t", request=REQUEST), "timeout"),
        (httpx.ReadTimeout("t", request=REQUEST), "timeout"),
        (httpx.WriteTimeout("t", request=REQUEST), "timeout"),
        (httpx.PoolTimeout("t", request=REQUEST), "timeout"),
        (httpx.ConnectError("t", request=REQUEST), "connection"),
        (httpx.ReadError("t", request=REQUEST), "connection"),
        (httpx.RemoteProtocolError("t", request=REQUEST), "connection"),
        (httpx.ProxyError("t", request=REQUEST), "connection"),
        (httpx2.ReadTimeout("t", request=REQUEST2), "timeout"),
        (httpx2.PoolTimeout("t", request=REQUEST2), "timeout"),
        (httpx2.ConnectError("t", request=REQUEST2), "connection"),
        (httpx2.RemoteProtocolError("t", request=REQUEST2), "connection"),
        (aiohttp.ClientPayloadError("t"), "connection"),
        (aiohttp.ServerDisconnectedError("t"), "connection"),
        (aiohttp.ClientOSError("t"), "connection"),
        (requests.ConnectTimeout("t"), "timeout"),
        (requests.ReadTimeout("t"), "timeout"),
        (requests.ConnectionError("t"), "connection"),
        (requests.exceptions.ChunkedEncodingError("t"), "connection"),
        (requests.exceptions.SSLError("t"), "connection"),
        (websockets.ConnectionClosedOK(None, None), "connection"),
        (websockets.ConnectionClosedError(None, None), "connection"),
        (asyncio.CancelledError(), "cancelled"),
        (futures.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (SystemExit(), "cancelled"),
        (TimeoutError("t"), "timeout"),
        (ConnectionResetError("t"), "connection"),
        (BrokenPipeError("t"), "connection"),
        (socket.gaierror("t"), "connection"),
        (ssl.SSLError("t"), "connection"),
        (ValueError("t"), "unknown"),
        (RuntimeError("t"), "unknown"),
        (CustomError("t"), "unknown"),
    ],
    ids=lambda value: (
        f"{type(value).__module__}.{type(value).__name__}" if not isinstance(value, str) else value
    ),
)
def test_kind_of_an_exception(error: BaseException, kind: ErrorKind) -> None:
    """Classes are matched by name, so that no HTTP client needs to be imported."""
    assert kind_of_exception(error) == kind


def test_kind_of_a_subclass_is_that_of_its_base() -> None:
    """An application may subclass an HTTP client's exceptions."""

    class Slow(httpx.ReadTimeout):
        pass

    class GoneError(ConnectionAbortedError):
        pass

    assert kind_of_exception(Slow("t", request=REQUEST)) == "timeout"
    assert kind_of_exception(GoneError("t")) == "connection"
