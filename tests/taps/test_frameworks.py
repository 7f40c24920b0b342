"""What frameworks say about the code that runs here labels its calls.

`make test-frameworks` asks the frameworks themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import llm_exporter
from llm_exporter.client import inferred_labels
from llm_exporter.client.inferred_labels import labels_of_call
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.taps import frameworks
from llm_exporter.taps.frameworks import langgraph, openai_agents

pytestmark = pytest.mark.usefixtures("pipeline")


@pytest.fixture(autouse=True)
def _all_frameworks() -> Iterator[None]:
    before = inferred_labels._in_use
    frameworks.use(tuple(frameworks.FRAMEWORKS))
    yield
    frameworks.restore()
    inferred_labels.use(before)


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))


def test_without_frameworks_there_is_nothing_to_know() -> None:
    assert labels_of_call() == {}


def test_the_agent_of_the_openai_sdk_is_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, "agents.run_internal.run_loop")
    token = openai_agents._running.set("triage")
    try:
        assert labels_of_call() == {"agent": "triage"}
    finally:
        openai_agents._running.reset(token)


@pytest.mark.parametrize(
    ("metadata", "graph", "labels"),
    [
        ({"langgraph_node": "draft"}, "", {"phase": "draft"}),
        ({"langgraph_node": "draft"}, "writer", {"agent": "writer", "phase": "draft"}),
        (
            {"langgraph_node": "model", "lc_agent_name": "coder"},
            "writer",
            {"agent": "coder", "phase": "model"},
        ),
        (
            {"langgraph_node": "call", "langgraph_checkpoint_ns": "researcher:1|call:2"},
            "",
            {"agent": "researcher", "phase": "call"},
        ),
        ({"thread_id": "1"}, "writer", {}),
    ],
)
def test_a_graph_is_the_agent_and_its_node_the_phase(
    metadata: dict[str, str], graph: str, labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    current = SimpleNamespace(get=lambda: {"metadata": metadata})
    module(monkeypatch, "langchain_core.runnables.config", var_child_runnable_config=current)
    token = langgraph._running.set(graph)
    try:
        assert labels_of_call() == labels
    finally:
        langgraph._running.reset(token)


@pytest.mark.parametrize(
    ("attributes", "baggage", "labels"),
    [
        ({"gen_ai.agent.name": "triage"}, {"gen_ai.agent.name": "other"}, {"agent": "triage"}),
        (None, {"gen_ai.agent.name": "triage", "phase": "plan"}, {"agent": "triage", "phase": "plan"}),
        ({}, {}, {}),
    ],
)
def test_a_span_or_the_baggage_names_the_agent(
    attributes: object, baggage: dict[str, str], labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    span = SimpleNamespace(attributes=attributes)
    module(monkeypatch, "opentelemetry.trace", get_current_span=lambda: span)
    module(monkeypatch, "opentelemetry.baggage", get_all=lambda: baggage)
    assert labels_of_call() == labels


@pytest.mark.parametrize(
    ("run", "labels"),
    [
        (SimpleNamespace(agent=SimpleNamespace(name="triage")), {"agent": "triage"}),
        (SimpleNamespace(agent=SimpleNamespace(name=None)), {}),
        (SimpleNamespace(), {}),  # of an older release
        (None, {}),
    ],
)
def test_the_agent_of_a_run_of_pydantic_ai_is_the_agent(
    run: object, labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module(monkeypatch, "pydantic_ai._run_context", get_current_run_context=lambda: run)
    assert labels_of_call() == labels


def step(workflow: object, **event: str) -> dict[str, SimpleNamespace]:
    """Return the variables of LlamaIndex while a step of a workflow runs."""
    running = SimpleNamespace(event=SimpleNamespace(**event), state=SimpleNamespace(step_name="draft"))
    context = SimpleNamespace(_face=SimpleNamespace(_workflow=workflow))
    return {
        "StepWorkerStateContextVar": SimpleNamespace(get=lambda default: running),
        "InternalContextVar": SimpleNamespace(get=lambda default: lambda: context),
    }


class Editor:
    _workflow_name = None

    def name(self) -> None:
        """Do what a step of this name does."""


@pytest.mark.parametrize(
    ("variables", "labels"),
    [
        (step(Editor()), {"agent": "Editor", "phase": "draft"}),
        (step(SimpleNamespace(_workflow_name="mine")), {"agent": "mine", "phase": "draft"}),
        (step(SimpleNamespace(name="writer")), {"agent": "writer", "phase": "draft"}),
        (step(Editor(), current_agent_name="triage"), {"agent": "triage", "phase": "draft"}),
        (step(None), {"phase": "draft"}),
        ({"StepWorkerStateContextVar": SimpleNamespace(get=lambda default: None)}, {}),
    ],
    ids=["class", "workflow_name", "agent", "agent of an event", "gone", "no step"],
)
def test_a_workflow_of_llama_index_is_the_agent_and_its_step_the_phase(
    variables: dict[str, object], labels: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module(monkeypatch, "workflows.runtime.types.results", **variables)
    assert labels_of_call() == labels


@pytest.mark.parametrize("name", frameworks.FRAMEWORKS)
def test_a_framework_that_has_changed_is_left_alone(
    name: str, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    framework = frameworks.FRAMEWORKS[name]
    for each in (framework.module, *framework.observed):
        module(monkeypatch, each)
    frameworks.use([name])
    assert labels_of_call() == {}
    assert all(vars(sys.modules[each]) == {} for each in framework.observed)
    assert pipeline.flush()
    text = b"".join(pipeline.metrics.text(scrape=False, openmetrics=False))
    assert b"llm_exporter_errors_total{" not in text


def test_an_unknown_framework_is_an_error() -> None:
    with pytest.raises(ValueError, match="labels_from: 'nobody' must be one of openai_agents, langgraph"):
        llm_exporter.instrument(labels_from=["nobody"])
