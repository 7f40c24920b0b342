"""Labels that a source knows are those of the calls that have none of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import llm_exporter
from llm_exporter.client import inferred_labels
from llm_exporter.client.inferred_labels import labels_of_call, use
from llm_exporter.client.pipeline import Pipeline


@pytest.fixture(autouse=True)
def _sources_as_before() -> Iterator[None]:
    before = inferred_labels._in_use
    yield
    use(before)


def test_labels_that_are_set_come_first() -> None:
    use([("sys", lambda: {"agent": "triage", "phase": None})])
    assert labels_of_call() == {"agent": "triage"}
    with llm_exporter.labels(agent="mine", project="p"):
        assert labels_of_call() == {"agent": "mine", "project": "p"}
    with llm_exporter.labels(phase="plan"):
        assert labels_of_call() == {"agent": "triage", "phase": "plan"}
    use([])
    assert labels_of_call() == {}


def test_the_first_source_that_knows_a_label_has_it() -> None:
    use([("sys", lambda: {"agent": "", "phase": "plan"}), ("sys", lambda: {"agent": "b", "phase": "c"})])
    assert labels_of_call() == {"agent": "b", "phase": "plan"}


def test_a_source_is_not_asked_before_its_module_is_imported() -> None:
    use([("nobody_has_imported_this", lambda: {"agent": "triage"})])
    assert labels_of_call() == {}


def test_names_of_others_are_made_harmless() -> None:
    use([("sys", lambda: {"agent": "a\nb"}), ("sys", lambda: {"phase": "x" * 300})])
    assert labels_of_call() == {"agent": "a?b", "phase": "x" * 256}


def test_a_source_that_fails_harms_no_call(pipeline: Pipeline) -> None:
    def broken() -> dict[str, object]:
        raise AttributeError("get_current_agent")

    use([("sys", broken), ("sys", lambda: {"phase": "plan"})])
    assert labels_of_call() == {"phase": "plan"}
    assert pipeline.flush()
    text = b"".join(pipeline.metrics.text(scrape=False, openmetrics=False)).decode()
    assert 'llm_exporter_errors_total{where="labels"} 1.0\n' in text
