"""genai-prices is used through one module, and loaded late."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from genai_prices import data_snapshot

import llm_exporter
from llm_exporter.pricing.providers import Providers

PACKAGE = Path(llm_exporter.__file__).parent
USUAL_URLS = {
    "https://api.openai.com/v1/": "openai",
    "https://acme.openai.azure.com/openai/": "azure",
    "https://api.anthropic.com": "anthropic",
    "https://generativelanguage.googleapis.com/": "google",
    "https://aiplatform.googleapis.com/": "google",
    "https://us-east5-aiplatform.googleapis.com/v1/": "google",
}


def imported_by(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def test_only_the_adapter_imports_genai_prices() -> None:
    importing = [
        file.relative_to(PACKAGE).as_posix()
        for file in sorted(PACKAGE.rglob("*.py"))
        if any(name.partition(".")[0] == "genai_prices" for name in imported_by(file))
    ]
    assert importing == ["pricing/genai.py"]


@pytest.mark.parametrize("url", USUAL_URLS)
def test_genai_prices_names_the_usual_providers_as_we_do(url: str) -> None:
    provider = USUAL_URLS[url]
    assert Providers().of(url, "Client", "sdk").provider == provider
    assert data_snapshot.get_snapshot().find_provider(None, None, url).id == provider


def run(program: str) -> str:
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_provider_of_the_usual_hosts_is_found_without_genai_prices() -> None:
    program = f"""
import sys
import llm_exporter.pricing.prices, llm_exporter.pricing.updates
from llm_exporter.pricing.providers import Providers
for url in {list(USUAL_URLS)}:
    Providers().of(url, "Client", "sdk")
print("genai_prices" in sys.modules)
"""
    assert run(program) == "False\n"


def test_the_worker_thread_loads_genai_prices_with_the_first_call() -> None:
    program = """
import sys, threading
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices":
            print(threading.current_thread().name)
sys.meta_path.insert(0, Finder())
import llm_exporter
from llm_exporter.client.default import pipeline
pipeline()
print("recorded")
llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
pipeline().flush()
"""
    assert run(program) == "recorded\nllm-exporter\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_process_forked_while_genai_prices_loads_can_price_calls() -> None:
    program = """
import os, sys, threading, time
loading = threading.Event()
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "genai_prices.data" and not loading.is_set():
            loading.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Finder())
import llm_exporter
from llm_exporter.client.default import pipeline
def record():
    return llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
record()
loading.wait()
child = os.fork()
call = record()
flushed = pipeline().flush(timeout=5)
if child == 0:
    os._exit(0 if flushed and call.total_cost == 0.0025 else 1)
print(os.waitpid(child, 0)[1], flushed, call.total_cost)
"""
    assert run(program) == "0 True 0.0025\n"
