"""`instrument` and `uninstrument`: turn metering of the SDKs' clients on and off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar, overload

from .. import environment
from ..client import default
from . import frameworks
from .sdk import Sdk
from .switch import asks_by_environment

Client = TypeVar("Client")
FRAMEWORKS: Final = tuple(frameworks.FRAMEWORKS)
"""Who may name agents and phases."""

_SDKS: Final = (
    Sdk("openai", ("openai", "OpenAITap")),
    Sdk("anthropic", ("anthropic", "AnthropicTap")),
    Sdk("google.genai", ("google", "GoogleTap")),
)


@overload
def instrument(
    client: Client, *, ask_for_usage: bool | None = None, labels_from: Sequence[str] = FRAMEWORKS
) -> Client: ...
@overload
def instrument(
    client: None = None, *, ask_for_usage: bool | None = None, labels_from: Sequence[str] = FRAMEWORKS
) -> None: ...
def instrument(
    client: Client | None = None,
    *,
    ask_for_usage: bool | None = None,
    labels_from: Sequence[str] = FRAMEWORKS,
) -> Client | None:
    """Meter one client, or every client of the three SDKs in this process.

    `instrument()` covers clients created before and after it, and imports no SDK: an SDK that is imported
    later is metered from then on. `instrument(client)` also covers copies of the client (`with_options` …).
    Instrumenting twice counts each call once. A release of an SDK that llm-exporter does not support is not
    metered; a warning is logged.

    If `LLM_EXPORTER_CONFIG` is set, that configuration file is in force before the first call, unless
    `configure` has loaded one. If `LLM_EXPORTER_URL` is set, every call is also sent to that service. With
    `LLM_EXPORTER_ENABLED=0` nothing is metered.

    Args:
        client: any sync or async client of openai, anthropic or google-genai; None for all clients.
        ask_for_usage: whether to request usage (`stream_options.include_usage`) for OpenAI chat streams that
            do not, and to remove the extra chunk from what the caller sees. None requests it from services
            that are known to accept it, or as `LLM_EXPORTER_ASK_FOR_USAGE` (`true` or `false`) says. True
            requests it from unknown services, too. False never requests it.
        labels_from: who names the agent and the phase of calls of this process that have no such label, in
            this order: `openai_agents` (the running agent), `langgraph` (the graph or agent, and its node),
            `pydantic_ai` (the running agent), `crewai` (the agent's role, and its task), `llama_index` (the
            agent or workflow, and its step), `langchain` (the `run_name` of the chain and of the model),
            `opentelemetry` (`gen_ai.agent.name` of the span in force or of the baggage), `http_headers` (with
            the `LabelsMiddleware` of `llm_exporter.asgi` or `llm_exporter.wsgi`), `celery` (the running
            task). `()` is nobody.

    Returns:
        The same client.

    Raises:
        TypeError: if the object is not a client of one of the three SDKs.
        ValueError: if `labels_from` names anything else.
        llm_exporter.ConfigError: if the file cannot be used, or `LLM_EXPORTER_URL`, `LLM_EXPORTER_ENABLED` or
            `LLM_EXPORTER_ASK_FOR_USAGE` is invalid. Nothing is metered then.
    """
    if not environment.is_enabled():
        return client
    if ask_for_usage is None:
        ask_for_usage = asks_by_environment()
    frameworks.use(labels_from)
    _follow_environment()
    if client is None:
        for sdk in _SDKS:
            sdk.switch.everything = True
            sdk.switch.ask_for_usage = ask_for_usage
            sdk.install()
        return None
    sdk = _sdk_of(client)
    if sdk.install():
        for owner in sdk.owners(client):
            sdk.switch.set(owner, on=True, ask_for_usage=ask_for_usage)
    return client


@overload
def uninstrument(client: Client) -> Client: ...
@overload
def uninstrument(client: None = None) -> None: ...
def uninstrument(client: Client | None = None) -> Client | None:
    """Stop metering one client, or all clients that were not instrumented by themselves.

    Once no client of an SDK is metered, the SDK has its own methods back.

    Args:
        client: a client, instrumented or not; `uninstrument(client)` after `instrument()` excludes it. None
            for all clients.

    Returns:
        The same client.

    Raises:
        TypeError: if the object is not a client of one of the three SDKs.
    """
    if client is None:
        for sdk in _SDKS:
            sdk.switch.everything = False
            sdk.remove_if_unused()
    else:
        sdk = _sdk_of(client)
        for owner in sdk.owners(client):
            sdk.switch.set(owner, on=False)
        sdk.remove_if_unused()
    if not any(sdk.switch.in_use for sdk in _SDKS):
        frameworks.restore()
    return client


def _follow_environment() -> None:
    if (path := environment.CONFIG.value) and not default.is_configured():
        default.configure(path)
    if url := environment.URL.value:
        default.ship_to(url)
    elif directory := environment.KEEP.value:
        default.keep_in(Path(directory))


def _sdk_of(client: object) -> Sdk:
    for sdk in _SDKS:
        if sdk.has(client):
            return sdk
    raise TypeError(f"not a client of openai, anthropic or google-genai: {type(client).__name__}")
