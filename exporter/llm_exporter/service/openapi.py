"""The description of the REST API, in OpenAPI 3.1: https://spec.openapis.org/oas/v3.1.1.html."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

import msgspec

from ..budgets.leases import LeaseRequest, LeaseResponse
from ..call import Call
from . import examples
from .ledger.base import Totals
from .reports import ALWAYS_BY

Json = dict[str, Any]

_PERIODS: Final = ("day", "hour", "month")
_TIME: Final = "RFC 3339, as in 2026-01-31T12:00:00Z, or seconds since 1970"
_QUERY: Final = {
    "since": f"Only calls that started then or later: {_TIME}.",
    "until": f"Only calls that started before: {_TIME}.",
    "window": "Only calls of the last so long: 45s, 5m, 1h30m, 30d. Instead of `since`.",
    "session": "Only calls of this session since it last began anew.",
    "provider": "Only calls to this provider.",
    "model": "Only calls of this model.",
    "operation": "Only calls of this operation.",
    "agent": "Only calls of this agent.",
    "phase": "Only calls of this phase.",
    "project": "Only calls of this project.",
    "label": "Only calls with these labels: name:value, and more behind commas.",
}


def _text(name: str, description: str, **schema: Any) -> Json:
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": {"type": "string", **schema},
    }


def _number(name: str, description: str, most: int) -> Json:
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _which() -> list[Json]:
    return [_text(name, description) for name, description in _QUERY.items()]


def _answers(schema: Json, *problems: int, media_type: str = "application/json", example: Any = None) -> Json:
    content = {media_type: _content(schema, example)}
    return {"200": {"description": "The answer.", "content": content}, **_problems(*problems)}


def _content(schema: Json, example: Any = None) -> Json:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _problems(*statuses: int) -> Json:
    problem = {"application/problem+json": _content(_ref("Problem"), examples.PROBLEM)}
    meaning = {
        400: "A mistake in the request.",
        404: "There is none.",
        413: "The body is too long.",
        409: "There is nothing to do it with.",
        415: "The body is encoded in a way that is not understood.",
        422: "The configuration has mistakes, or changes what cannot change; all stays as it was.",
        503: "The ledger cannot be used; try again later.",
    }
    return {str(status): {"description": meaning[status], "content": problem} for status in statuses}


def _object(properties: Json, *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required or properties)}


def _list(of: Json) -> Json:
    return {"type": "array", "items": of}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def description() -> Json:
    """Return the description of every route."""
    _, components = msgspec.json.schema_components(
        (Call, Totals, LeaseRequest, LeaseResponse), ref_template="#/components/schemas/{name}"
    )
    totals = components["Totals"]["properties"]
    maybe_time = {"type": ["string", "null"], "format": "date-time"}
    ranked = {f"by_{name}": _list(_object({name: {"type": "string"}, **totals})) for name in ALWAYS_BY}
    shown = {
        "allOf": [
            _ref("Call"),
            _object(
                {
                    "position": {"type": "integer"},
                    **{name: {"type": "string"} for name in ("agent", "phase")},
                    "cost_usd": {"type": "number"},
                    **{name: {"type": "integer"} for name in ("input_tokens", "output_tokens")},
                }
            ),
        ]
    }
    period = _object(
        {
            **{name: {"type": "string", "format": "date-time"} for name in ("start", "end")},
            **totals,
            "by_model": ranked["by_model"],
        }
    )
    components["Problem"] = _object({"status": {"type": "integer"}, "detail": {"type": "string"}})
    components["Alert"] = _object(
        {
            "status": {"enum": ["firing", "resolved"]},
            "labels": _strings(),
            "annotations": _strings(),
            "fingerprint": {"type": "string"},
        },
        *("status", "labels"),
    )
    paths: Json = {
        "/api/v1/calls": {
            "post": {
                "summary": "Take calls in, each once by its id; acknowledged when they are on disk.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": _content(_list(_ref("Call")), [examples.CALL])},
                },
                "responses": _answers(
                    _object({"accepted": {"type": "integer"}, "duplicates": {"type": "integer"}}),
                    *(400, 413, 415, 503),
                    example={"accepted": 1, "duplicates": 0},
                ),
            },
            "get": {
                "summary": "Calls, the newest first.",
                "parameters": [
                    *_which(),
                    _number("limit", "How many at most; 500 if not given.", 10_000),
                    _number("before", "Only those before a position, as `next` of the page before.", 2**62),
                    _text("format", "JSON, or CSV to download.", enum=["json", "csv"]),
                ],
                "responses": {
                    "200": {
                        "description": "A page of calls.",
                        "content": {
                            "application/json": _content(
                                _object({"calls": _list(shown), "next": {"type": ["integer", "null"]}}),
                                examples.CALLS,
                            ),
                            "text/csv": {"schema": {"type": "string"}},
                        },
                    },
                    **_problems(400, 503),
                },
            },
        },
        "/api/v1/cost": {
            "get": {
                "summary": "What calls cost, in all and by dimension; of the current session by default.",
                "parameters": [*_which(), _text("by", "Further labels, with commas between them.")],
                "responses": _answers(
                    _object(
                        {
                            "session": {"type": ["string", "null"]},
                            "since": maybe_time,
                            "until": maybe_time,
                            **totals,
                            **ranked,
                        }
                    ),
                    *(400, 404, 503),
                    example=examples.COST,
                ),
            }
        },
        "/api/v1/usage": {
            "get": {
                "summary": "What calls came to by UTC hour, day or month, and by model.",
                "parameters": [
                    _text(
                        "scope",
                        "What `id` is the name of.",
                        enum=["project", "agent", "session", "model", "phase"],
                    ),
                    _text("id", "The name of one project, agent, session, model or phase."),
                    _text("period", "How long a period is.", enum=[*_PERIODS]),
                    _text("since", _QUERY["since"]),
                    _text("until", _QUERY["until"]),
                ],
                "responses": _answers(
                    _object(
                        {
                            "scope": {"type": ["string", "null"]},
                            "id": {"type": ["string", "null"]},
                            "period": {"type": "string"},
                            "periods": _list(period),
                        }
                    ),
                    *(400, 503),
                    example=examples.USAGE,
                ),
            }
        },
        "/api/v1/report": {
            "get": {
                "summary": "What calls came to by several dimensions together, and by UTC period.",
                "parameters": [
                    *_which(),
                    _text("by", "The dimensions and labels, with commas between them."),
                    _text("period", "How long a period is; all in one if not given.", enum=[*_PERIODS]),
                ],
                "responses": _answers(_object({"rows": _list(_object(totals))}), *(400, 503)),
            }
        },
        "/api/v1/budgets": {
            "get": {
                "summary": "How the budgets stand, the fullest first.",
                "responses": _answers(_object({"budgets": _list(_budget())}), 503),
            }
        },
        "/api/v1/budgets/leases": {
            "post": {
                "summary": "What a metered process may spend of shared budgets before it asks again.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": _ref("LeaseRequest")}},
                },
                "responses": _answers(_ref("LeaseResponse"), *(400, 413, 415, 503)),
            }
        },
        "/api/v1/sessions/{id}/reset": {
            "post": {
                "summary": "Let a session begin anew; its calls stay in the ledger.",
                "parameters": [
                    {
                        "name": "id",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1},
                    }
                ],
                "responses": {"204": {"description": "Done."}, **_problems(404, 503)},
            }
        },
        "/api/v1/alerts": {
            "post": {
                "summary": "Alerts, as Alertmanager sends them to a webhook: shown on the live page.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": _content(
                            _object({"alerts": _list(_ref("Alert"))}), examples.ALERTS
                        )
                    },
                },
                "responses": {"204": {"description": "Done."}, **_problems(400, 413)},
            }
        },
        "/api/v1/events": {
            "get": {
                "summary": "Server-sent events: `call`, `alert`, `budget`, `threshold`, `missed`.",
                "responses": _answers(
                    {"type": "string"}, media_type="text/event-stream", example=examples.EVENTS
                ),
            }
        },
        "/api/v1/openapi.json": {
            "get": {"summary": "This description.", "responses": _answers({"type": "object"})}
        },
        "/metrics": {
            "get": {
                "summary": "What all calls came to, for Prometheus; also as OpenMetrics.",
                "responses": {
                    "200": {
                        "description": "The metrics.",
                        "content": {
                            "text/plain": {"schema": {"type": "string"}},
                            "application/openmetrics-text": {"schema": {"type": "string"}},
                        },
                    }
                },
            }
        },
        "/-/healthy": {
            "get": {
                "summary": "Whether the process runs.",
                "responses": _answers({"type": "string"}, media_type="text/plain", example="healthy\n"),
            }
        },
        "/-/reload": {
            "post": {
                "summary": "Follow the configuration file as it is now.",
                "responses": _answers(
                    {"type": "string"}, 409, 422, 503, media_type="text/plain", example="reloaded\n"
                ),
            }
        },
        "/-/ready": {
            "get": {
                "summary": "Whether the ledger answers.",
                "responses": _answers({"type": "string"}, 503, media_type="text/plain", example="ready\n"),
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-exporter", "version": version("llm-exporter")},
        "paths": paths,
        "components": {"schemas": components},
    }


def _budget() -> Json:
    text, amount = {"type": "string"}, {"type": "number"}
    return _object(
        {
            "budget": text,
            "period": {"enum": ["hour", "day", "month", "total"]},
            "labels": _strings(),
            "unit": {"enum": ["usd", "tokens"]},
            **dict.fromkeys(("limit", "spent", "left"), amount),
            "on_exceed": {"enum": ["warn", "block"]},
            "resets_at": {"type": ["string", "null"], "format": "date-time"},
        }
    )


def _strings() -> Json:
    return {"type": "object", "additionalProperties": {"type": "string"}}
