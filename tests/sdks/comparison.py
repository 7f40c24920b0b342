"""Compare the results of two runs of a test suite, and check the differences against the known ones."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["passed", "failed", "error", "skipped", "xfailed", "missing"]


@dataclass(frozen=True)
class Result:
    """The result of one test in one run."""

    status: Status
    message: str = ""
    """Why it did not pass."""
    own_errors: tuple[str, ...] = ()
    """Errors inside llm-exporter while it ran, each with its traceback."""


MISSING = Result("missing")


@dataclass(frozen=True)
class Difference:
    """A test that passes in one run only, or during which llm-exporter failed."""

    test: str
    raw: Result
    metered: Result

    def __str__(self) -> str:
        """Name the test, both results and what went wrong."""
        worse = self.metered if self.raw.status == "passed" else self.raw
        details = self.metered.own_errors or (worse.message,)
        lines = [f"{self.test}: {self.raw.status} raw, {self.metered.status} metered"]
        lines += [f"    {line}" for detail in details for line in detail.splitlines()[-12:]]
        return "\n".join(lines)


@dataclass(frozen=True)
class Known:
    """A difference that is accepted, and the reason."""

    suite: str
    test: str
    """The id of a test, or the part before `[`, which stands for all its parameters."""
    reason: str

    def __post_init__(self) -> None:
        """Check that it says why.

        Raises:
            ValueError: if it does not.
        """
        if not self.reason.strip():
            raise ValueError(f"{self.suite}: {self.test}: a known difference needs a reason")

    def covers(self, test: str) -> bool:
        """Return whether it is about this test."""
        return test == self.test or test.partition("[")[0] == self.test


@dataclass(frozen=True)
class Verdict:
    """What a comparison found."""

    new: list[Difference] = field(default_factory=list)
    """Differences that nobody has accepted."""
    known: list[Difference] = field(default_factory=list)
    gone: list[Known] = field(default_factory=list)
    """Known differences that no longer occur: remove them from the list."""

    @property
    def is_good(self) -> bool:
        """Whether the list of known differences is exactly right."""
        return not self.new and not self.gone


def differences(raw: Mapping[str, Result], metered: Mapping[str, Result]) -> list[Difference]:
    """Return the tests that pass in one run only, and those during which llm-exporter failed.

    Two failures are no difference, even for different reasons: a test that never passes tests nothing.
    """
    found = []
    for test in sorted({*raw, *metered}):
        before, after = raw.get(test, MISSING), metered.get(test, MISSING)
        if (before.status == "passed") != (after.status == "passed") or after.own_errors:
            found.append(Difference(test, before, after))
    return found


def judge(suite: str, found: Iterable[Difference], known: Collection[Known], ran: Collection[str]) -> Verdict:
    """Check the differences of one suite against the known ones.

    Args:
        suite: the name of the suite.
        found: its differences.
        known: the known differences of all suites.
        ran: the tests that ran. A known difference of a test that did not run is not `gone`.
    """
    accepted = [each for each in known if each.suite == suite]
    verdict, used = Verdict(), set[Known]()
    for difference in found:
        covering = [each for each in accepted if each.covers(difference.test)]
        used.update(covering)
        (verdict.known if covering else verdict.new).append(difference)
    verdict.gone.extend(
        each for each in accepted if each not in used and any(each.covers(test) for test in ran)
    )
    return verdict


def load_known(path: Path) -> list[Known]:
    """Read the known differences.

    Raises:
        TypeError: if an entry lacks a key or has an unknown one.
        ValueError: if an entry has no reason, or the file is not TOML.
    """
    return [Known(**entry) for entry in tomllib.loads(path.read_text()).get("difference", [])]
