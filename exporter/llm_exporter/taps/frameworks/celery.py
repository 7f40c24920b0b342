"""Celery: the name of the running task.

Celery keeps the running task by thread, so a thread that the task starts would not know it. Its signals tell
us when a task begins and ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any, Final

from .observing import Framework, at_end

_running: Final[ContextVar[tuple[str, ...]]] = ContextVar("llm_exporter_celery_tasks", default=())
"""The names of the running tasks. More than one runs if a task applies another one here."""
_MODULE: Final = "celery.signals"
_ID: Final = "llm_exporter"


def _labels() -> Mapping[str, object]:
    return {"agent": (_running.get() or ("",))[-1]}


def _observe(module: ModuleType) -> None:
    for name, receiver in (("task_prerun", _begin), ("task_postrun", _end)):
        if (signal := getattr(module, name, None)) is not None:
            signal.connect(receiver, weak=False, dispatch_uid=_ID)
            at_end(partial(signal.disconnect, dispatch_uid=_ID))


def _begin(task: Any = None, **_: object) -> None:
    _running.set((*_running.get(), str(task.name)))


def _end(**_: object) -> None:
    _running.set(_running.get()[:-1])


FRAMEWORK: Final = Framework(_MODULE, _labels, {_MODULE: _observe})
