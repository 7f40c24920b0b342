"""`guarded` reports errors instead of raising them."""

from __future__ import annotations

from llm_exporter.guard import guarded


def test_an_error_is_reported_with_the_part_that_failed() -> None:
    reported: list[tuple[str, BaseException]] = []
    error = ValueError("no")

    def fail() -> None:
        raise error

    assert guarded("sink", fail, report=lambda where, error: reported.append((where, error))) is None
    assert reported == [("sink", error)]


def test_a_result_is_returned() -> None:
    assert guarded("sink", int, "7", report=lambda *_: None) == 7
