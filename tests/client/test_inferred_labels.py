"""Agents and phases that frameworks know label the calls that have none."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

import llm_exporter
from llm_exporter.client import inferred_labels
from llm_exporter.client.inferred_labels import labels_of_call, running_agent, running_graph, use
from llm_exporter.client.pipeline import Pipeline


@pytest.fixture(autouse=True)
def _all_sources() -> Iterator[None]:
    before = inferred_labels._in_use
    use(tuple(inferred_labels.SOURCES))
    yield
    inferred_labels._in_use = before


def module(monkeypatch: pytest.MonkeyPatch, name: str, **content: object) -> None:
    monkeypatch.setitem(sys.modules, name, SimpleNamespace(**content))


def test_without_frameworks_there_is_nothing_to_know() -> None:
    assert labels_of_call() == {}


def test_labels_that_are_set_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, "agents.run_internal.run_loop")
    token = running_agent.set("triage")
    try:
        assert labels_of_call() == {"agent": "triage"}
        with llm_exporter.labels(agent="mine", project="p"):
            assert labels_of_call() == {"agent": "mine", "project": "p"}
        with llm_exporter.labels(phase="plan"):
            assert labels_of_call() == {"agent": "triage", "phase": "plan"}
        use(())
        assert labels_of_call() == {}
    finally:
        running_agent.reset(token)


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
    token = running_graph.set(graph)
    try:
        assert labels_of_call() == labels
    finally:
        running_graph.reset(token)


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


def test_a_framework_that_has_changed_harms_no_call(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(monkeypatch, "opentelemetry.trace")
    with llm_exporter.labels(agent="mine"):
        assert labels_of_call() == {"agent": "mine"}
    assert pipeline.flush()
    text = b"".join(pipeline.metrics.text(scrape=False, openmetrics=False)).decode()
    assert 'llm_exporter_errors_total{where="labels"} 1.0\n' in text


def test_an_unknown_source_is_an_error() -> None:
    with pytest.raises(ValueError, match="labels_from: 'nobody' must be one of openai_agents, langgraph"):
        llm_exporter.instrument(labels_from=["nobody"])
