"""Run the SDKs' own test suites twice, raw and metered, and compare which tests pass.

    make test-sdks                           everything
    make test-sdks ARGS=--quick              the part that CI runs
    make test-sdks ARGS="openai anthropic"   some of the suites

Each test must pass metered if and only if it passes raw, and no error may occur inside llm-exporter.
`known_differences.toml` lists the exceptions, each with its reason. A test that differs is run again together
with the other tests of its file, both ways. If it does not differ again, it is reported as unstable.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .comparison import Difference, Known, Result, differences, judge, load_known
from .stand_in import StandIn
from .suites import SUITES, Suite

_HERE: Final = Path(__file__).parent
_TIMEOUT: Final = 3600.0
"""Seconds that one run of a suite may take."""
_FAKE_KEYS: Final = {"GEMINI_API_KEY": "key", "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/nonexistent"}


@dataclass(frozen=True)
class Run:
    """One run of a suite."""

    results: dict[str, Result]
    calls: float
    """How many calls were metered."""
    seconds: float

    def __str__(self) -> str:
        """Summarize the run."""
        counts = Counter(result.status for result in self.results.values())
        parts = [
            f"{counts[status]} {status}"
            for status in ("passed", "failed", "error", "skipped")
            if counts[status]
        ]
        return f"{', '.join(parts)} in {self.seconds:.0f} s"


class Runner:
    """Runs one suite.

    Args:
        suite: the suite.
        directory: the directory with its `tests/`.
        api: the address of the stand-in for the provider's API; empty if the suite needs none.
        scratch: a directory for files.
    """

    def __init__(self, suite: Suite, directory: Path, api: str, scratch: Path) -> None:
        self._suite = suite
        self._directory = directory
        self._api = api
        self._scratch = scratch
        self._config = scratch / "llm-exporter.yml"
        self._config.write_text(f'providers: {{"{api}": {suite.name}}}\n' if api else "{}\n")

    def run(self, tests: Sequence[str], *, metered: bool, processes: int = 2) -> Run:
        """Run some tests, raw or metered.

        Raises:
            OSError: if pytest itself fails.
        """
        output = self._scratch / "results.json"
        output.unlink(missing_ok=True)
        start = time.monotonic()
        done = subprocess.run(
            self._command(tests, processes),
            cwd=self._scratch if self._suite.in_package else self._directory,
            env=self._environment(output, metered=metered),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        seconds = time.monotonic() - start
        if done.returncode not in {0, 1} or not output.is_file():  # tests may fail, pytest may not
            raise OSError(f"pytest failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        data = json.loads(output.read_text())
        results = {
            test: Result(each["status"], each.get("message", ""), tuple(each.get("own_errors", ())))
            for test, each in data["tests"].items()
        }
        return Run(results, data["calls"], seconds)

    def _command(self, tests: Sequence[str], processes: int) -> list[str]:
        command = [sys.executable, "-m", "pytest", "-p", "sdk_results", "-p", "no:cacheprovider", "-q"]
        command += ["-o", "addopts=", "--tb=short", *self._suite.options]
        if processes > 1:
            command += ["-n", str(processes), "--dist", "loadfile"]
        if self._suite.in_package:
            ini = self._scratch / "pytest.ini"
            ini.write_text("[pytest]\nconsider_namespace_packages = true\n")
            command += ["-c", str(ini), "--rootdir", str(self._directory)]
        return [*command, *(str(self._directory / test) for test in tests)]

    def _environment(self, output: Path, *, metered: bool) -> dict[str, str]:
        dropped = (
            "LLM_EXPORTER_",
            "OPENAI_",
            "ANTHROPIC_",
            "GOOGLE_",
            "GEMINI_",
            "AZURE_",
            "AWS_",
            "PYTEST_",
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **kept,
            **(_FAKE_KEYS if self._suite.in_package else {}),
            "PYTHONPATH": str(_HERE / "plugin"),
            "PYTHONHASHSEED": "0",
            "TEST_API_BASE_URL": f"http://{self._api}",
            "SDK_RESULTS": str(output),
            "SDK_METERED": str(self._config) if metered else "",
        }


@contextmanager
def runner_of(suite: Suite) -> Iterator[Runner]:
    """Download the sources of a suite, and start the server that its tests call.

    Raises:
        OSError: if they cannot be downloaded.
    """
    directory = suite.directory()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llm-exporter-sdks-")))
        api = ""
        if not suite.in_package:
            api = stack.enter_context(StandIn(suite.package, directory)).address
        yield Runner(suite, directory, api, scratch)


def check(suite: Suite, known: Sequence[Known], *, quick: bool) -> bool:
    """Run a suite both ways, print what differs, and return whether all is as listed."""
    tests = suite.quick if quick else ("tests",)
    with runner_of(suite) as runner:
        raw = runner.run(tests, metered=False)
        _print(f"{suite.name} {suite.version}, raw: {raw}")
        metered = runner.run(tests, metered=True)
        _print(f"{suite.name} {suite.version}, metered: {metered}; {metered.calls:.0f} calls")
        found = differences(raw.results, metered.results)
        again = _again(runner, found)
    verdict = judge(suite.name, again, known, metered.results)
    repeated = {difference.test for difference in again}
    for difference in found:
        if difference.test not in repeated:
            _print(f"unstable: {difference.test}")
    for difference in verdict.known:
        _print(f"known: {difference.test}")
    for difference in verdict.new:
        _print(f"NEW: {difference}")
    for gone in verdict.gone:
        _print(f"GONE: {gone.test}: remove it from known_differences.toml")
    if not metered.calls:
        _print("NOT METERED: the tests made no call that llm-exporter saw")
    return verdict.is_good and metered.calls > 0


def _again(runner: Runner, found: Sequence[Difference]) -> list[Difference]:
    """Run the files of the tests that differ again, and return the differences that occur again."""
    if not found:
        return []
    files = sorted({difference.test.partition("::")[0] for difference in found})
    raw = runner.run(files, metered=False, processes=1)
    metered = runner.run(files, metered=True, processes=1)
    before = {difference.test for difference in found}
    return [each for each in differences(raw.results, metered.results) if each.test in before]


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str]) -> int:
    """Check the suites, and return the exit status."""
    parser = argparse.ArgumentParser(prog="make test-sdks ARGS=", description="Run the SDKs' own tests.")
    parser.add_argument("suites", nargs="*", metavar="SDK", help="openai, anthropic or google-genai")
    parser.add_argument("--quick", action="store_true", help="run the part that CI runs")
    options = parser.parse_args(arguments)
    chosen = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
    known = load_known(_HERE / "known_differences.toml")
    good = [check(suite, known, quick=options.quick) for suite in chosen]
    _print(f"{good.count(True)} passed, {good.count(False)} failed")
    return 0 if good and all(good) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(f"make test-sdks: {error}")
