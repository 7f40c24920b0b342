"""The OpenAPI description of the REST API: https://spec.openapis.org/oas/v3.1.1.html.

The schemas are derived from the structs in `schemas`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from inspect import cleandoc
from typing import Any, Final, get_args

import msgspec

from ..bounds import MAX_TEXT_BYTES
from ..budgets.lease_messages import LeaseRequest, LeaseResponse
from ..call import Call
from ..periods import STEPS, WINDOWS
from . import examples
from .reports import MAX_SEARCHED
from .requests import FILTERS
from .schemas import (
    BudgetList,
    CallPage,
    CostReport,
    ProblemDetails,
    Receipt,
    Report,
    Scope,
    Session,
    SignIn,
    UsageReport,
    Webhook,
)

Json = dict[str, Any]

_REQUESTS: Final = (Call, LeaseRequest, Webhook, SignIn)
_RESPONSES: Final = (
    Receipt,
    CallPage,
    CostReport,
    UsageReport,
    Report,
    BudgetList,
    LeaseResponse,
    Session,
    ProblemDetails,
)
_TIME: Final = "RFC 3339, for example 2026-01-31T12:00:00Z, or Unix seconds"
_DESCRIPTIONS: Final = {
    "since": f"Only calls that started at this time or later: {_TIME}.",
    "until": f"Only calls that started before this time: {_TIME}.",
    "window": "Only calls in the last window, for example 5m, 1h30m or 30d. Excludes `since`.",
    "session": "Only calls of this session since its last reset.",
    "label": "Only calls with these labels: name:value, comma-separated. Write \\, for a comma in a text,"
    " \\: for a colon in a name, and \\\\ for a backslash.",
}
_STATUSES: Final = {
    400: "Invalid request.",
    401: "The service needs authentication.",
    403: "The token lacks the right, or a page of another site sent the request.",
    404: "Not found.",
    409: "The service runs without a configuration file, or without tokens.",
    413: "The body is too large, or has too many calls. Send fewer per request.",
    415: "Unsupported Content-Encoding or Content-Type.",
    421: "The service has no authentication, and its host name is unknown.",
    422: "The configuration is invalid, or requires a restart. The old one stays in effect.",
    503: "The ledger is unavailable, or a limit of the service is reached. Try again later.",
}


def description() -> Json:
    """Return the OpenAPI description of all routes."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-exporter", "version": version("llm-exporter")},
        "paths": _guarded({**_calls(), **_reports(), **_budgets(), **_live(), **_operations()}),
        "components": {
            "schemas": {**_schemas(_RESPONSES, complete=True), **_schemas(_REQUESTS)},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "llm-exporter-session",
                    "description": "What signing in sets. Over HTTPS, the name begins with __Host-.",
                },
            },
        },
        # A service without tokens and users admits anyone.
        "security": [{"token": []}, {"password": []}, {"session": []}, {}],
    }


def _guarded(paths: Json) -> Json:
    """Add the responses to requests that may not pass."""
    for path, operations in paths.items():
        for operation in operations.values():
            if path in ("/-/healthy", "/-/ready"):
                operation["security"] = []
                operation["responses"] |= _problems(403)
            elif path in ("/-/login", "/-/logout"):
                operation["security"] = []
                operation["responses"] |= _problems(403, 421)
            else:
                operation["responses"] |= _problems(401, 403, 421)
    return paths


def _schemas(structs: Sequence[type[msgspec.Struct]], *, complete: bool = False) -> Json:
    """Return the schemas of structs by name.

    Args:
        structs: These and all that they refer to.
        complete: Whether all fields are present, as in responses. Requests may omit fields with defaults.
    """
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    for schema in schemas.values():
        schema["description"] = cleandoc(schema["description"])
        if complete:
            schema["required"] = list(schema["properties"])
    return schemas


def _calls() -> Json:
    return {
        "/api/v1/calls": {
            "post": {
                "summary": "Add calls. Each is stored once by its id. The response confirms durable storage.",
                "requestBody": _body({"type": "array", "items": _ref(Call)}, [examples.CALL]),
                "responses": _responses(
                    _ref(Receipt), 400, 413, 415, 503, example={"accepted": 1, "duplicates": 0}
                ),
            },
            "get": {
                "summary": "List calls, newest first.",
                "parameters": [
                    *_filters(),
                    _integer("limit", "The maximum number of calls. Defaults to 500.", 10_000),
                    _text(
                        "search",
                        "Only calls with this text in their id, provider, model, operation, route, error or"
                        f" labels (name:value), in any case. A search reads {MAX_SEARCHED:,} calls for a"
                        " page, so a page may be short although `next` is not null.",
                        maxLength=MAX_TEXT_BYTES,
                    ),
                    _text("failed", "Only calls that failed, or that did not.", enum=["true", "false"]),
                    _integer("before", "Only calls before this position: `next` of the last page.", 2**62),
                    _text("format", "JSON, or CSV as a download.", enum=["json", "csv"]),
                ],
                "responses": {
                    "200": {
                        "description": "A page of calls.",
                        "content": {
                            "application/json": _content(_ref(CallPage), examples.CALLS),
                            "text/csv": {"schema": {"type": "string"}},
                        },
                    },
                    **_problems(400, 503),
                },
            },
        },
        "/api/v1/sessions/{id}/reset": {
            "post": {
                "summary": "Reset a session: count it from zero. Its calls stay in the ledger.",
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1},
                    }
                ],
                "responses": {"204": {"description": "The session was reset."}, **_problems(404, 503)},
            }
        },
    }


def _reports() -> Json:
    period = _text("period", "The length of a period. Defaults to day.", enum=[*WINDOWS])
    return {
        "/api/v1/cost": {
            "get": {
                "summary": "Report cost in total and by dimension. Defaults to the current session.",
                "parameters": [
                    *_filters(),
                    _text("by", "Further labels to report by, comma-separated. Each adds `by_<label>`."),
                ],
                "responses": _responses(_ref(CostReport), 400, 404, 503, example=examples.COST),
            }
        },
        "/api/v1/usage": {
            "get": {
                "summary": "Report usage by UTC hour, day or month, and by model.",
                "parameters": [
                    _text("scope", "The dimension that `id` is a value of.", enum=[*get_args(Scope)]),
                    _text("id", "The name of the project, agent, session, model or phase."),
                    period,
                    _text("since", _DESCRIPTIONS["since"]),
                    _text("until", _DESCRIPTIONS["until"]),
                ],
                "responses": _responses(_ref(UsageReport), 400, 503, example=examples.USAGE),
            }
        },
        "/api/v1/report": {
            "get": {
                "summary": "Report totals for each combination of dimensions, and by UTC period.",
                "parameters": [
                    *_filters(),
                    _text("by", "Dimensions and labels, comma-separated."),
                    _text(
                        "period",
                        "The length of a period. Defaults to a single total. Minutes are for a day at most.",
                        enum=[*STEPS],
                    ),
                    _integer(
                        "top",
                        "Only this number of combinations, the most expensive ones. The others are summed up"
                        " in rows whose dimensions are null.",
                        1000,
                    ),
                ],
                "responses": _responses(_ref(Report), 400, 503, example=examples.REPORT),
            }
        },
    }


def _budgets() -> Json:
    return {
        "/api/v1/budgets": {
            "get": {
                "summary": "List budgets and what is left of them, the most used first.",
                "responses": _responses(_ref(BudgetList), 503),
            }
        },
        "/api/v1/budgets/leases": {
            "post": {
                "summary": "Lease amounts of shared budgets to a metered process.",
                "requestBody": _body(_ref(LeaseRequest)),
                "responses": _responses(_ref(LeaseResponse), 400, 413, 415, 503),
            }
        },
    }


def _live() -> Json:
    return {
        "/api/v1/alerts": {
            "post": {
                "summary": "Receive an Alertmanager webhook. The live page shows the alerts.",
                "requestBody": _body(_ref(Webhook), examples.ALERTS),
                "responses": {
                    "204": {"description": "The alerts were received."},
                    **_problems(400, 413, 415, 503),
                },
            }
        },
        "/api/v1/events": {
            "get": {
                "summary": "Stream server-sent events: call, budgets, budget, threshold, alert, missed.",
                "responses": _responses(
                    {"type": "string"}, 503, media_type="text/event-stream", example=examples.EVENTS
                ),
            }
        },
    }


def _operations() -> Json:
    return {
        "/api/v1/openapi.json": {
            "get": {"summary": "This description.", "responses": _responses({"type": "object"})}
        },
        "/metrics": {
            "get": {
                "summary": "The metrics of all calls, in a Prometheus format or OpenMetrics.",
                "responses": {
                    "200": {
                        "description": "The metrics.",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                            "application/vnd.google.protobuf": {
                                "schema": {"type": "string", "format": "binary"}
                            },
                        },
                    }
                },
            }
        },
        "/-/healthy": {"get": {"summary": "Check that the process runs.", "responses": _plain("healthy\n")}},
        "/-/ready": {
            "get": {"summary": "Check that the ledger is available.", "responses": _plain("ready\n", 503)}
        },
        "/-/login": {
            "post": {
                "summary": "Sign in to the live page with a token: set a session cookie for twelve hours.",
                "requestBody": _body(_ref(SignIn), {"token": "the token in the file"}),
                "responses": _responses(_ref(Session), 400, 401, 409, 413, 415, example=examples.SESSION),
            }
        },
        "/-/logout": {
            "post": {
                "summary": "Sign out of the live page: delete the session cookie.",
                "responses": {"204": {"description": "The browser deletes the cookie."}},
            }
        },
        "/-/session": {
            "get": {
                "summary": "Return who makes the request, and with which rights.",
                "responses": _responses(_ref(Session), example=examples.SESSION),
            }
        },
        "/-/reload": {
            "post": {
                "summary": "Reload the configuration file.",
                "responses": _plain("reloaded\n", 409, 422, 503),
            }
        },
    }


def _filters() -> list[Json]:
    return [_text(name, _DESCRIPTIONS.get(name, f"Only calls of this {name}.")) for name in FILTERS]


def _text(name: str, description: str, **schema: Any) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _integer(name: str, description: str, at_most: int) -> Json:
    schema = {"type": "integer", "minimum": 1, "maximum": at_most}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _body(schema: Json, example: Any = None) -> Json:
    return {"required": True, "content": {"application/json": _content(schema, example)}}


def _responses(
    schema: Json, *problems: int, media_type: str = "application/json", example: Any = None
) -> Json:
    content = {media_type: _content(schema, example)}
    return {"200": {"description": "OK", "content": content}, **_problems(*problems)}


def _plain(text: str, *problems: int) -> Json:
    return _responses({"type": "string"}, *problems, media_type="text/plain", example=text)


def _content(schema: Json, example: Any = None) -> Json:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _problems(*statuses: int) -> Json:
    problem = {"application/problem+json": _content(_ref(ProblemDetails), examples.PROBLEM)}
    return {str(status): {"description": _STATUSES[status], "content": problem} for status in statuses}


def _ref(struct: type[msgspec.Struct]) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}
