"""The recipes of docs/recipes.md, as files and commands in a directory, and the calls that they make."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.awaiting import DEADLINE, until
from support.scripted import Server
from support.served import Served
from tools.stack import free_port

DOCUMENT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
USAGE = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1024},
}
"""What the provider reports for each call."""
TOKENS = {"input": 176, "cache_read": 1024, "output": 300}
COST = {"input": 0.00044, "cache_read": 0.00128, "output": 0.003}
"""USD per call to gpt-4o: $2.50, $1.25 and $10 per million tokens."""


class Recipe:
    """A section of the document in a directory, with addresses of its own.

    Args:
        title: the heading of the section.
        directory: where its files are.
        provider: what it calls.
    """

    def __init__(self, title: str, directory: Path, provider: Server) -> None:
        section = DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        assert section, title
        self.directory = directory
        self.port = free_port()
        self.metrics_port = free_port()
        self.addresses = {
            ":8000": f":{self.port}",
            " 8000": f" {self.port}",
            "(9847)": f"({self.metrics_port})",
        }
        self._blocks = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LLM_EXPORTER_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(directory),
            "LLM_EXPORTER_SPOOL": str(directory / "spool"),
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
        }

    def blocks(self, language: str) -> list[str]:
        """Return the blocks of a language, with this recipe's addresses."""
        return [self._local(block) for found, block in self._blocks if found == language]

    def write(self) -> None:
        """Write the files."""
        for block in self.blocks("python"):
            name, _, content = block.removeprefix("# ").partition("\n")
            (self.directory / name).parent.mkdir(exist_ok=True)
            (self.directory / name).write_text(content, encoding="utf-8")

    @property
    def commands(self) -> str:
        """The commands. The last one takes the place of the shell, so that a signal to the shell ends it."""
        *before, last = "".join(self.blocks("sh")).strip().split("\n")
        return "\n".join([*before, last if last.startswith("export ") else f"exec {last}"])

    def run(self, commands: str | None = None) -> str:
        """Run commands until they end, by default those of the recipe, and return what they print."""
        done = subprocess.run(
            ["bash", "-euc", commands or self.commands],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def running(self, commands: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Run commands in the background, by default those of the recipe, and end them with SIGTERM."""
        log = self.directory / "log"
        with (
            log.open("ab") as output,
            subprocess.Popen(
                ["bash", "-euc", commands or self.commands],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=output,
            ) as process,
        ):
            try:
                yield process
            except BaseException:
                sys.stderr.write(log.read_text(encoding="utf-8", errors="replace"))
                raise
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()

    def get(self, path: str, port: int | None = None) -> str:
        """Return the body of the response to a GET, once the server is up."""

        def response() -> str:
            try:
                with urlopen(f"http://127.0.0.1:{port or self.port}{path}", timeout=DEADLINE) as response:
                    return str(response.read().decode())
            except ConnectionError:
                return ""
            except OSError as error:
                if isinstance(getattr(error, "reason", None), ConnectionError):
                    return ""
                raise

        return until(response)

    def ship_to(self, served: Served) -> None:
        """Use this service instead of the one in the document."""
        self.addresses["http://127.0.0.1:9847"] = served.url

    def _local(self, block: str) -> str:
        for address, own in self.addresses.items():
            block = block.replace(address, own)
        return block


def assert_metrics(text: str, calls: dict[tuple[str, str], int]) -> None:
    """Assert that `/metrics` has exactly these calls, by agent and phase."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.value and sample.name in ("llm_calls_total", "llm_tokens_total", "llm_cost_usd_total"):
                labels = dict(sample.labels)
                assert (labels.pop("provider"), labels.pop("model")) == ("openai", "gpt-4o-2024-08-06")
                key = tuple(labels.pop(name) for name in ("agent", "phase"))
                found.setdefault(sample.name, {})[(*key, *labels.values())] = sample.value
    assert found["llm_calls_total"] == {(*key, "chat"): number for key, number in calls.items()}
    for name, each in (("llm_tokens_total", TOKENS), ("llm_cost_usd_total", COST)):
        expected = {(*key, kind): each[kind] * number for key, number in calls.items() for kind in each}
        assert found[name] == pytest.approx(expected, abs=1e-12)
    assert "llm_exporter_errors_total{" not in text


def assert_received(served: Served, calls: dict[tuple[str, str], int]) -> None:
    """Assert that the service has exactly these calls, by agent and phase."""
    received = served.get("/api/v1/calls?limit=500")["calls"]
    assert Counter((call["agent"], call["phase"]) for call in received) == calls
    for call in received:
        assert (call["provider"], call["model"], call["error"]) == ("openai", "gpt-4o-2024-08-06", None)
    assert_metrics(served.get_text("/metrics"), calls)
