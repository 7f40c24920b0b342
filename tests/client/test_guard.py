"""An error in our code is reported, and never raised in the user's call."""

from __future__ import annotations

from collections.abc import Callable
from logging import LogRecord

import pytest

from llm_exporter.client.guard import guarded, report_error
from llm_exporter.client.pipeline import Pipeline
from support.metered import Metered


class OursError(Exception):
    """An error in our code."""


def fail(*args: object) -> None:
    raise OursError(*args)


def test_guarded_returns_the_result() -> None:
    assert guarded("tap", lambda a, b: a + b, 1, 2) == 3


def test_guarded_logs_and_counts_an_error(pipeline: Pipeline, said: Callable[[], list[LogRecord]]) -> None:
    assert guarded("tap", fail, "no") is None
    assert Metered(pipeline).samples("llm_exporter_errors_total") == {("tap",): 1}
    (record,) = said()
    assert record.exc_info
    assert record.exc_info[0] is OursError


def test_guarded_raises_an_allowed_error() -> None:
    with pytest.raises(OursError):
        guarded("tap", fail, allow=OursError)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_guarded_does_not_stop_an_exit(error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    with pytest.raises(error):
        guarded("tap", leave)


def test_report_error_never_raises(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], list[LogRecord]]
) -> None:
    monkeypatch.setattr("llm_exporter.client.guard.pipeline", fail)
    report_error("tap", ValueError("no"))
    (record,) = said()
    assert "ValueError('no')" in record.getMessage()
