"""The examples in the docstrings of public functions."""

from __future__ import annotations

import doctest

import pytest

import llm_exporter
from llm_exporter.client.pipeline import Pipeline

EXPECTED = {"check_budget", "estimate_cost", "flush", "labels", "record", "start_http_server", "subscribe"}
EXAMPLES = [
    test
    for name in llm_exporter.__all__
    if not name.startswith("_")
    for test in doctest.DocTestFinder(recurse=False).find(getattr(llm_exporter, name), name)
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_example_in_a_docstring_is_right(example: doctest.DocTest, pipeline: Pipeline) -> None:
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_public_functions_have_examples() -> None:
    assert {example.name for example in EXAMPLES} >= EXPECTED
