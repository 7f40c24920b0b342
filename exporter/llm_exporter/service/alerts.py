"""Alerts on the live page, from the service's own budgets and thresholds and from Alertmanager.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..budgets.events import Event, ThresholdCrossed
from .requests import Problem
from .schemas import Alert, Webhook

_decode: Final = msgspec.json.Decoder(Webhook).decode


def alert_of(event: Event) -> Alert:
    """Return the alert that the live page shows for an event."""
    if isinstance(event, ThresholdCrossed):
        key, severity = f"threshold {event.threshold} {event.since}", "warning"
    else:
        key = f"budget {event.budget} {event.labels} {event.since} {event.ratio}"
        severity = "critical" if event.ratio >= 1 else "warning"
    title, _, detail = str(event).partition(": ")
    return Alert(key=key, title=title, detail=detail, severity=severity, resolved=False)


def alerts_in(body: bytes) -> list[Alert]:
    """Return the alerts in the body of an Alertmanager webhook.

    Raises:
        Problem: The body is invalid.
    """
    try:
        alerts = _decode(body).alerts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"invalid Alertmanager webhook: {error}") from None
    return [
        Alert(
            key=alert.fingerprint or str(sorted(alert.labels.items())),
            title=alert.annotations.get("summary") or alert.labels.get("alertname", "alert"),
            detail=alert.annotations.get("description", ""),
            severity=alert.labels.get("severity", "warning"),
            resolved=alert.status == "resolved",
        )
        for alert in alerts
    ]
