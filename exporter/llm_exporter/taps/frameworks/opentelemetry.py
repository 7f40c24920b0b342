"""OpenTelemetry: the agent that the span in force or the baggage names."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from .observing import Framework

_MODULE: Final = "opentelemetry.trace"
_NAME: Final = "gen_ai.agent.name"


def _labels() -> Mapping[str, object]:
    span: Any = getattr(sys.modules[_MODULE], "get_current_span", None)
    attributes = getattr(span and span(), "attributes", None) or {}
    baggage: Any = getattr(sys.modules.get("opentelemetry.baggage"), "get_all", None)
    known = baggage() if baggage else {}
    return {
        "agent": attributes.get(_NAME) or known.get(_NAME) or known.get("agent"),
        "phase": known.get("phase"),
    }


FRAMEWORK: Final = Framework(_MODULE, _labels)
