"""Responses of the REST API."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from .requests import Problem
from .schemas import ProblemDetails


def json_response(value: object, status: int = 200, media_type: str = "application/json") -> Response:
    """Return a value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type=media_type)


def problem_response(problem: Problem) -> Response:
    """Return an error as in RFC 9457."""
    details = ProblemDetails(problem.status, problem.detail)
    response = json_response(details, problem.status, "application/problem+json")
    response.headers.update(problem.headers)
    return response
