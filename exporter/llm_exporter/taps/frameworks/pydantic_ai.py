"""Pydantic AI: the agent whose run this is, as the framework itself keeps it in a context variable."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from .observing import Framework

_MODULE: Final = "pydantic_ai._run_context"


def _labels() -> Mapping[str, object]:
    current: Any = getattr(sys.modules[_MODULE], "get_current_run_context", None)
    agent = getattr(current and current(), "agent", None)
    return {"agent": getattr(agent, "name", None)}


FRAMEWORK: Final = Framework(_MODULE, _labels)
