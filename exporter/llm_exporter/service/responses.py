"""Responses of the REST API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from .requests import Problem
from .schemas import ProblemDetails

JSON: Final = "application/json"

_encode: Final = msgspec.json.Encoder().encode


def json_response(value: object, status: int = 200, media_type: str = JSON) -> Response:
    """Return a small value as JSON."""
    return Response(_encode(value), status, media_type=media_type)


def encoded(report: Callable[..., msgspec.Struct | Mapping[str, Any]], *arguments: object) -> bytes:
    """Make a report, and return it as JSON.

    An encoder keeps all other threads waiting until it returns, so each call of it gets one row.

    Args:
        report: Returns the report: an object whose lists may have many rows.
        arguments: Its arguments.
    """
    made = report(*arguments)
    fields = msgspec.structs.asdict(made) if isinstance(made, msgspec.Struct) else made
    return b"{" + b",".join([_encode(name) + b":" + _rows(value) for name, value in fields.items()]) + b"}"


def _rows(value: object) -> bytes:
    if not isinstance(value, list):
        return _encode(value)
    return b"[" + b",".join([_encode(row) for row in value]) + b"]"


def problem_response(problem: Problem) -> Response:
    """Return an error as in RFC 9457."""
    details = ProblemDetails(problem.status, problem.detail)
    response = json_response(details, problem.status, "application/problem+json")
    for name, values in problem.headers.items():
        for value in [values] if isinstance(values, str) else values:
            response.headers.append(name, value)
    return response
