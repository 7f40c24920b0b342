"""LangChain without a graph: the `run_name` of the innermost chain that has one, and that of the model.

A chain's name is in the configuration of its own run only. LangChain makes the configuration of what the
chain runs with `patch_config`, with new callbacks. We note the name on these callbacks.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import Any, Final

from ...client.guard import guarded
from .observing import Framework, Method, Noting, wrap

CONFIG: Final = "langchain_core.runnables.config"
"""The module of the configuration of what runs."""
_CALLBACKS: Final = "langchain_core.callbacks.base"
_MODELS: Final = "langchain_core.language_models.chat_models"
_PATCHING: Final = (
    CONFIG,
    "langchain_core.runnables.base",
    "langchain_core.runnables.branch",
    "langchain_core.runnables.fallbacks",
    "langchain_core.runnables.passthrough",
    "langchain_core.runnables.retry",
    "langchain_core.tools.base",
)
"""The modules that have a name for `patch_config`."""
_CHAIN: Final = "_llm_exporter_chain"
"""The attribute of callbacks that holds the name of the innermost named chain."""

_of_model: Final[ContextVar[Mapping[str, object] | None]] = ContextVar("llm_exporter_model", default=None)
"""The labels of the call that a model makes."""


def _labels() -> Mapping[str, object]:
    return _of_model.get() or {"agent": _chain_here()}


def _observe_config(module: ModuleType) -> None:
    wrap(module, "patch_config", _passing_on)


def _observe_callbacks(module: ModuleType) -> None:
    wrap(getattr(module, "BaseCallbackManager", None), "copy", _copying)


def _observe_models(module: ModuleType) -> None:
    model = getattr(module, "BaseChatModel", None)
    generating, streaming = Noting(_of_model, _generating), Noting(_of_model, _streaming)
    wrap(model, "generate", generating.function)
    wrap(model, "agenerate", generating.coroutine)
    wrap(model, "stream", streaming.generator)
    wrap(model, "astream", streaming.async_generator)


def _passing_on(patch_config: Method) -> Method:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        guarded("labels", partial(_note_chain, *args, **kwargs))
        return patch_config(*args, **kwargs)

    return wrapped


def _note_chain(config: Any, *, callbacks: Any = None, **_: object) -> None:
    if callbacks is not None:
        config = config or {}
        setattr(callbacks, _CHAIN, config.get("run_name") or _chain_of(config.get("callbacks")))


def _copying(copy: Method) -> Method:
    def wrapped(callbacks: Any) -> Any:
        copied = copy(callbacks)
        guarded("labels", setattr, copied, _CHAIN, getattr(callbacks, _CHAIN, ""))
        return copied

    return wrapped


def _chain_of(callbacks: object) -> str:
    """Return the innermost named chain that has these callbacks, or that runs here."""
    return getattr(callbacks, _CHAIN, "") or _chain_here()


def _chain_here() -> str:
    return getattr(config_here().get("callbacks"), _CHAIN, "")


def config_here() -> Mapping[str, Any]:
    """Return LangChain's configuration of what runs here."""
    config: Any = getattr(sys.modules.get(CONFIG), "var_child_runnable_config", None)
    return (config and config.get()) or {}


def _generating(
    *_: object, callbacks: object = None, run_name: object = None, **__: object
) -> dict[str, object]:
    chain = _chain_of(callbacks)
    return {"agent": chain, "phase": run_name} if chain else {"agent": run_name}


def _streaming(_: object, __: object, config: Any = None, **___: object) -> dict[str, object]:
    config = config or {}
    return _generating(callbacks=config.get("callbacks"), run_name=config.get("run_name"))


FRAMEWORK: Final = Framework(
    CONFIG,
    _labels,
    {**dict.fromkeys(_PATCHING, _observe_config), _CALLBACKS: _observe_callbacks, _MODELS: _observe_models},
)
