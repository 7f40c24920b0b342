"""Comparing turns."""

from __future__ import annotations

from bench.compared import overhead


def test_the_overhead_is_the_median_of_the_turns_that_were_disturbed_least() -> None:
    baseline = [1.0, 1.0, 1.0, 1.0, 7.0, 1.0, 9.0, 3.0]
    measured = [1.2, 1.6, 1.4, 9.0, 1.0, 1.8, 9.0, 8.0]
    more = overhead(baseline, measured, 2)
    assert round(more.seconds, 9) == 0.25  # of 0.1, 0.2, 0.3 and 0.4
    assert round(more.spread, 9) == 0.125


def test_an_overhead_is_shown_in_microseconds_with_its_spread() -> None:
    assert str(overhead([0, 0], [2e-6, 4e-6], 1)) == "+3.00 ± 1.50"
    assert str(overhead([1, 1], [0.5, 0.5], 1)) == "-500,000.0 ± 0.0"
