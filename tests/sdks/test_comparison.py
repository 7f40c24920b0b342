"""The comparison of two runs of an SDK's tests, and the list of known differences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sdks.comparison import Known, Result, differences, judge, load_known

ROOT = Path(__file__).parents[2]
PASSED = Result("passed")
FAILED = Result("failed", "E   assert 1 == 2")
A, B, C = "tests/test_a.py::test_a", "tests/test_b.py::test_b[x]", "tests/test_c.py::test_c"
KNOWN_B = Known("openai", "tests/test_b.py::test_b", "it looks at the class of the response")


def test_equal_results_are_no_difference() -> None:
    assert differences({A: PASSED, B: FAILED}, {A: PASSED, B: FAILED}) == []


def test_a_test_that_never_passes_is_no_difference() -> None:
    assert differences({A: FAILED, B: Result("skipped")}, {A: Result("error"), B: FAILED}) == []


@pytest.mark.parametrize(
    ("raw", "metered"), [(PASSED, FAILED), (FAILED, PASSED), (PASSED, Result("skipped"))]
)
def test_a_test_that_passes_in_one_run_only_is_a_difference(raw: Result, metered: Result) -> None:
    (found,) = differences({A: raw, B: PASSED}, {A: metered, B: PASSED})
    assert (found.test, found.raw, found.metered) == (A, raw, metered)


@pytest.mark.parametrize("missing_from", ["raw", "metered"])
def test_a_test_that_ran_once_is_a_difference(missing_from: str) -> None:
    both, one = {A: PASSED, B: PASSED}, {A: PASSED}
    raw, metered = (one, both) if missing_from == "raw" else (both, one)
    (found,) = differences(raw, metered)
    assert found.test == B
    assert {found.raw.status, found.metered.status} == {"passed", "missing"}


def test_an_error_of_our_own_is_a_difference_of_a_test_that_passes() -> None:
    (found,) = differences({A: PASSED}, {A: Result("passed", own_errors=("llm-exporter failed in tap",))})
    assert str(found) == f"{A}: passed raw, passed metered\n    llm-exporter failed in tap"


def test_a_difference_shows_why_the_test_failed() -> None:
    (found,) = differences({A: PASSED}, {A: FAILED})
    assert str(found) == f"{A}: passed raw, failed metered\n    E   assert 1 == 2"
    (found,) = differences({A: FAILED}, {A: PASSED})
    assert str(found) == f"{A}: failed raw, passed metered\n    E   assert 1 == 2"


def test_a_known_difference_covers_all_parameters_of_its_test() -> None:
    assert KNOWN_B.covers("tests/test_b.py::test_b")
    assert KNOWN_B.covers("tests/test_b.py::test_b[x]")
    assert not KNOWN_B.covers("tests/test_b.py::test_bb")
    exact = Known("openai", B, "only with x")
    assert exact.covers(B)
    assert not exact.covers("tests/test_b.py::test_b[y]")


def test_a_difference_is_new_unless_it_is_listed_for_its_suite() -> None:
    found = differences({A: PASSED, B: PASSED}, {A: FAILED, B: FAILED})
    verdict = judge("openai", found, [KNOWN_B], ran=[A, B])
    assert [each.test for each in verdict.new] == [A]
    assert [each.test for each in verdict.known] == [B]
    assert not verdict.is_good
    assert [each.test for each in judge("anthropic", found, [KNOWN_B], ran=[A, B]).new] == [A, B]


def test_only_listed_differences_are_good() -> None:
    found = differences({A: PASSED, B: PASSED}, {A: PASSED, B: FAILED})
    assert judge("openai", found, [KNOWN_B], ran=[A, B]).is_good


def test_a_known_difference_that_no_longer_occurs_is_gone() -> None:
    verdict = judge("openai", [], [KNOWN_B], ran=[A, B])
    assert verdict.gone == [KNOWN_B]
    assert not verdict.is_good


def test_a_known_difference_of_a_test_that_did_not_run_is_not_gone() -> None:
    assert judge("openai", [], [KNOWN_B], ran=[A, C]).is_good


def test_a_known_difference_needs_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text(f'[[difference]]\nsuite = "openai"\ntest = "{A}"\nreason = " "\n')
    with pytest.raises(ValueError, match="test_a: a known difference needs a reason"):
        load_known(path)


def test_the_list_of_known_differences_can_be_read() -> None:
    known = load_known(ROOT / "tests/sdks/known_differences.toml")
    assert {each.suite for each in known} <= {"openai", "anthropic", "google-genai"}


@pytest.mark.parametrize("sdk", ["anthropic", "google-genai", "openai"])
def test_the_suites_are_of_the_releases_that_the_other_tests_use(sdk: str) -> None:
    pinned = re.compile(rf"^{sdk}==(\S+)", re.MULTILINE)
    ours, theirs = ((ROOT / f"requirements{name}.lock").read_text() for name in ("-sdks", ""))
    assert pinned.findall(ours) == pinned.findall(theirs) != []
