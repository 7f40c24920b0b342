"""Alerts, as Alertmanager sends them to a webhook and as the live page shows them.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..budgets.events import Event, ThresholdCrossed
from .requests import Problem


class Alert(msgspec.Struct, kw_only=True):
    """One alert."""

    key: str
    """The same for the alert and for its end."""
    title: str
    detail: str
    severity: str
    resolved: bool


def alert_of(event: Event) -> Alert:
    """Return what the live page shows of an event."""
    if isinstance(event, ThresholdCrossed):
        key, severity = f"threshold {event.threshold} {event.since}", "warning"
    else:
        key = f"budget {event.budget} {event.labels} {event.since} {event.ratio}"
        severity = "critical" if event.ratio >= 1 else "warning"
    title, _, detail = str(event).partition(": ")
    return Alert(key=key, title=title, detail=detail, severity=severity, resolved=False)


class _Sent(msgspec.Struct):
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    fingerprint: str = ""


class _Webhook(msgspec.Struct):
    alerts: list[_Sent]


_decode: Final = msgspec.json.Decoder(_Webhook).decode


def alerts_in(body: bytes) -> list[Alert]:
    """Return the alerts in a webhook's body.

    Raises:
        Problem: for a body that is something else.
    """
    try:
        sent = _decode(body).alerts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"not what Alertmanager sends to a webhook: {error}") from None
    return [
        Alert(
            key=alert.fingerprint or str(sorted(alert.labels.items())),
            title=alert.annotations.get("summary") or alert.labels.get("alertname", "alert"),
            detail=alert.annotations.get("description", ""),
            severity=alert.labels.get("severity", "warning"),
            resolved=alert.status == "resolved",
        )
        for alert in sent
    ]
