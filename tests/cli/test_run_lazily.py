"""A Python under `llm-exporter run` is metered from its first import of an SDK, however it imports it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_exporter.cli.run import STARTUP
from llm_exporter.taps.instrument import _SDKS
from support.operations import CHAT
from support.pythons import python
from support.scripted import Server
from support.served import Served

CALL = """
import sys

def call():
    import openai
    with openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="k") as client:
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hello"}])
"""

OURS = """
import sys, threading
print([name for name in ("llm_exporter", "msgspec", "prometheus_client", "pydantic") if name in sys.modules])
print([thread.name for thread in threading.enumerate()])
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Server]:
    with Server() as server:
        server.respond_with("/chat/completions", CHAT.responses[False]())
        yield server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as served:
        yield served


def run(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "llm_exporter.cli", "run", "--url", "http://127.0.0.1:9", *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_sdks_are_awaited() -> None:
    (names,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((STARTUP / "sitecustomize.py").read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "AWAITED"
    )
    assert sorted(names) == sorted(["llm_exporter", *(sdk.package for sdk in _SDKS)])


@pytest.mark.parametrize("program", ["", "import json, logging, http.client, google"])
def test_a_process_that_imports_no_sdk_has_nothing_of_ours(program: str) -> None:
    ran = run("--", sys.executable, "-c", program + OURS)
    assert ran.stdout == "[]\n['MainThread']\n"
    assert ran.stderr == ""


def test_looking_for_an_sdk_imports_nothing_of_ours() -> None:
    looks = (
        "from importlib.util import find_spec; print(find_spec('openai').loader.name, find_spec('no_sdk'))"
    )
    ran = run("--", sys.executable, "-c", looks + OURS)
    assert ran.stdout == "openai None\n[]\n['MainThread']\n"


def test_the_startup_file_has_the_syntax_of_old_pythons() -> None:
    ast.parse((STARTUP / "sitecustomize.py").read_text(), feature_version=(3, 4))


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7", "3.9", "3.10", "3.12", "3.13"])
def test_a_child_of_another_python_runs_as_ever(version: str, tmp_path: Path) -> None:
    """Its own `sitecustomize` runs, and it writes nothing."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.here_too = True")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    shows = "import sys; sys.stdout.write('%s %s' % (sys.here_too, sys.version_info[:2]))"
    ran = run("--", python(version), "-c", shows, environment={"PYTHONPATH": path})
    assert (ran.stdout, ran.stderr) == (f"True ({version.replace('.', ', ')})", "")


@pytest.mark.parametrize("version", ["3.6", "3.10"])
def test_a_python_without_our_package_says_so_once_it_imports_an_sdk(version: str, tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("name = 'the SDK'")
    imports = "import sys; sys.path.append(sys.argv[1]); import openai, anthropic; print(openai.name)"
    (tmp_path / "anthropic.py").write_text("")
    program = python(version)
    ran = run("--", program, "-c", imports, str(tmp_path))
    assert (ran.returncode, ran.stdout) == (0, "the SDK\n")
    assert ran.stderr == f"llm-exporter: {program} is not metered: No module named 'llm_exporter'\n"


@pytest.mark.parametrize("option", ["-I", "-E", "-S"])
def test_an_isolated_python_runs_as_ever(option: str) -> None:
    ran = run("--", sys.executable, option, "-c", OURS)
    assert (ran.stdout, ran.stderr) == ("[]\n['MainThread']\n", "")


PROGRAMS: dict[str, tuple[str, int]] = {
    "in a thread": (
        "import threading; thread = threading.Thread(target=call); thread.start(); thread.join()",
        1,
    ),
    "in a forked child": (
        "import multiprocessing\n"
        "child = multiprocessing.get_context('fork').Process(target=call); child.start(); child.join()\n"
        "call()",
        2,
    ),
    "in a spawned child": (
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('spawn').Process(target=call); child.start(); child.join()\n"
        "    assert 'openai' not in sys.modules",
        1,
    ),
    "with another __import__": (
        "import builtins\n"
        "original = builtins.__import__\n"
        "builtins.__import__ = lambda *args, **kwargs: original(*args, **kwargs)\n"
        "call()",
        1,
    ),
    "and reloads it": ("import importlib, openai; importlib.reload(openai); call()", 1),
    "behind a finder that asks all finders": (
        "import importlib.util\n"
        "class Finder:\n"
        "    asking = False\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'openai' and not self.asking:\n"
        "            self.asking = True\n"
        "            return importlib.util.find_spec(name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "call()",
        1,
    ),
    "and instruments everything itself": ("import llm_exporter; llm_exporter.instrument(); call()", 1),
    "and instruments its client": (
        "import openai, llm_exporter\n"
        "client = llm_exporter.instrument(openai.OpenAI(base_url=sys.argv[1] + '/v1', api_key='k'))\n"
        "client.chat.completions.create(model='gpt-4o', messages=[{'role': 'user', 'content': 'Hello'}])",
        1,
    ),
    "but has turned metering off": ("import llm_exporter; llm_exporter.uninstrument(); call()", 0),
    "after a failed import of it": (
        "import pathlib, tempfile\n"
        "broken = tempfile.mkdtemp(); pathlib.Path(broken, 'openai.py').write_text('raise ImportError(1)')\n"
        "sys.path.insert(0, broken)\n"
        "try:\n"
        "    import openai\n"
        "except ImportError:\n"
        "    sys.path.remove(broken); sys.path_importer_cache.clear()\n"
        "call()",
        1,
    ),
}
"""What a program does, and how many of its calls are metered."""


@pytest.mark.parametrize("case", PROGRAMS)
def test_a_program_that_imports_an_sdk_is_metered(
    case: str, provider: Server, served: Served, tmp_path: Path
) -> None:
    program, calls = PROGRAMS[case]
    (tmp_path / "program.py").write_text(CALL + program)
    ran = run(
        *(
            "--url",
            served.url,
            "--agent",
            case,
            "--",
            sys.executable,
            str(tmp_path / "program.py"),
            provider.url,
        ),
        environment=served.environment,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert _calls(served, case) == calls


def test_an_sdk_in_a_zip_file_is_metered(provider: Server, served: Served, tmp_path: Path) -> None:
    package = Path(openai.__file__).parent
    with zipfile.ZipFile(tmp_path / "sdk.zip", "w") as file:
        for source in package.rglob("*.py"):
            file.write(source, source.relative_to(package.parent))
    (tmp_path / "program.py").write_text(
        CALL + "sys.path.insert(0, sys.argv[2]); call(); import openai; print(openai.__loader__)"
    )
    ran = run(
        *("--url", served.url, "--agent", "zipped", "--", sys.executable, str(tmp_path / "program.py")),
        *(provider.url, str(tmp_path / "sdk.zip")),
        environment=served.environment,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("<zipimporter object")
    assert _calls(served, "zipped") == 1


def test_an_sdk_that_sitecustomize_imports_is_metered(
    provider: Server, served: Served, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import openai")
    (tmp_path / "program.py").write_text(CALL + "call()")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = run(
        *("--url", served.url, "--agent", "early", "--", sys.executable, str(tmp_path / "program.py")),
        provider.url,
        environment={**served.environment, "PYTHONPATH": path},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert _calls(served, "early") == 1


def test_the_program_has_the_last_word_on_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "ours.yml").write_text("prices: {fallback: {input: 1}}\n")
    (tmp_path / "theirs.yml").write_text("prices: {fallback: {input: 3}}\n")
    program = (
        "import llm_exporter, openai, sys\n"
        "print(llm_exporter.estimate_cost('no-model', 1_000_000))\n"
        "llm_exporter.configure(sys.argv[1])\n"
        "import anthropic\n"
        "print(llm_exporter.estimate_cost('no-model', 1_000_000))"
    )
    words = ["--", sys.executable, "-c", program, str(tmp_path / "theirs.yml")]
    ran = run("--config", str(tmp_path / "ours.yml"), *words)
    assert (ran.stdout, ran.stderr) == ("1.0\n3.0\n", "")


def test_an_invalid_configuration_is_reported_once(tmp_path: Path) -> None:
    """It was valid when `run` started: here, because the program sets it for its children."""
    program = (
        "import os, subprocess, sys\n"
        "os.environ['LLM_EXPORTER_CONFIG'] = sys.argv[1]\n"
        "sys.exit(subprocess.run([sys.executable, '-c', 'import openai, anthropic']).returncode)"
    )
    (tmp_path / "bad.yml").write_text("no_such_key: 1\n")
    ran = run("--", sys.executable, "-c", program, str(tmp_path / "bad.yml"))
    assert ran.returncode == 0
    message = f"llm-exporter: {sys.executable} is not metered: {tmp_path / 'bad.yml'}:1: no_such_key: "
    assert ran.stderr.count("not metered") == 1
    assert ran.stderr.startswith(message)


def test_a_child_that_was_forked_while_another_thread_imported_our_package_says_so(tmp_path: Path) -> None:
    """It inherits a lock of that import, for which its own import would wait forever."""
    waits = "import __main__; __main__.importing.set(); __main__.forked.wait(); raise ImportError('broken')"
    (tmp_path / "msgspec.py").write_text(waits)
    program = """
import os, sys, threading

importing, forked = threading.Event(), threading.Event()

def first():
    import openai

sys.path.insert(0, sys.argv[1])
thread = threading.Thread(target=first)
thread.start()
importing.wait()
if not (child := os.fork()):
    import anthropic
    os._exit(0)
os.waitpid(child, 0)
forked.set()
thread.join()
"""
    ran = run("--", sys.executable, "-W", "ignore", "-c", program, str(tmp_path))
    assert ran.stderr.splitlines() == [
        f"llm-exporter: {sys.executable} is not metered: {reason}"
        for reason in ("it was forked while another thread imported llm_exporter", "broken")
    ]


@pytest.mark.parametrize("broken", ["sys.stderr = None", "sys.stderr.close()"])
def test_a_message_that_cannot_be_written_breaks_no_import(broken: str) -> None:
    program = (
        f"import sys; sys.modules['llm_exporter.call'] = None; {broken}; import openai; print('imported')"
    )
    ran = run("--", sys.executable, "-c", program)
    assert (ran.returncode, ran.stdout) == (0, "imported\n")


def _calls(served: Served, agent: str) -> int:
    rows: list[dict[str, Any]] = served.get("/api/v1/cost?window=1d")["by_agent"]
    return sum(row["calls"] for row in rows if row["agent"] == agent)
