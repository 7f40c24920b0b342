"""The examples in the OpenAPI description: one call of a coding agent on 31 January 2026 at 12:00 UTC."""

from __future__ import annotations

from typing import Final

PROBLEM: Final = {"status": 404, "detail": "session 's-17' has no calls"}
SESSION: Final = {"name": "token people", "rights": ["admin", "read"], "signed_in": True}
CALL: Final = {
    "id": "019aaf6f5f3c0123456789abcdef0123",
    "provider": "openai",
    "model": "gpt-4o",
    "operation": "chat",
    "started": 1769860800.0,
    "labels": {"agent": "coder", "phase": "execute", "session": "s-17"},
    "tokens": {"input": 1000, "output": 100},
    "duration": 1.5,
}
TOTALS: Final = {
    "calls": 1,
    "errors": 0,
    "cost_usd": 0.0035,
    "input_tokens": 1000,
    "output_tokens": 100,
    "unpriced_tokens": 0,
    "approximated_tokens": 0,
}
COST: Final = {
    "session": "s-17",
    "since": None,
    "until": None,
    **TOTALS,
    "by_model": [{"model": "gpt-4o", **TOTALS}],
    "by_agent": [{"agent": "coder", **TOTALS}],
    "by_phase": [{"phase": "execute", **TOTALS}],
    "by_provider": [{"provider": "openai", **TOTALS}],
}
USAGE: Final = {
    "scope": "agent",
    "id": "coder",
    "period": "month",
    "periods": [
        {
            "start": "2026-01-01T00:00:00.000Z",
            "end": "2026-02-01T00:00:00.000Z",
            **TOTALS,
            "by_model": [{"model": "gpt-4o", **TOTALS}],
        }
    ],
}
REPORT: Final = {"rows": [{"day": "2026-01-31T00:00:00.000Z", "model": "gpt-4o", **TOTALS}]}
CALL_ROW: Final = {
    **CALL,
    "cost": {"input": 0.0025, "output": 0.001},
    "position": 1,
    "agent": "coder",
    "phase": "execute",
    "cost_usd": 0.0035,
    "input_tokens": 1000,
    "output_tokens": 100,
    "approximated_tokens": 0,
}
CALLS: Final = {"calls": [CALL_ROW], "next": None}
ALERTS: Final = {
    "version": "4",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "LLMCostHigh", "severity": "critical", "agent": "coder"},
            "annotations": {"summary": "coder spends too much", "description": "It spends $12 an hour."},
            "fingerprint": "c0ffee0123456789",
        }
    ],
}
EVENTS: Final = (
    'event: call\ndata: {"id":"019aaf6f5f3c0123456789abcdef0123","agent":"coder","cost_usd":0.0035}\n\n'
    'event: alert\ndata: {"key":"c0ffee0123456789","title":"coder spends too much","resolved":false}\n\n'
    "event: missed\ndata: {}\n\n"
)
