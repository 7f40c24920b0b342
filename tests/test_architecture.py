"""The wings of the package: who may import whom, and what importing must not do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import llm_exporter
import llm_exporter.types

PACKAGE = Path(llm_exporter.__file__).parent

ORDER = [
    "errors",
    "environment",
    "http_url",
    "no_redirects",
    "harmless",
    "threads",
    "sockets",
    "log",
    "forking",
    "file_lock",
    "private_files",
    "guard",
    "periods",
    "call",
    "bounds",
    "labels",
    "config",
    "tls",
    "web_config",
    "host_names",
    "pricing",
    "wire",
    "metrics",
]
"""What both the process and the service use. Each may import only those before it, and itself."""

SHARED = [*ORDER, "budgets"]
CLIENT = [*SHARED, "client"]
TAPS = [*CLIENT, "taps"]

MAY_IMPORT = {
    **{name: ORDER[: number + 1] for number, name in enumerate(ORDER)},
    "budgets": SHARED,
    "client": CLIENT,
    "taps": TAPS,
    "types": TAPS,
    "asgi": CLIENT,
    "wsgi": CLIENT,
    "service": [*SHARED, "service", "client.spool"],
    "bundle": ["http_url", "no_redirects", "config", "bundle"],
    "cli": [*TAPS, "service", "bundle", "cli"],
    "__main__": ["cli"],
    "": TAPS,  # __init__.py
}
"""By the first part of a module's name within the package."""

PRIVATE_DEPENDENCIES = {"genai_prices": "pricing/genai.py"}
"""Libraries whose unexported names we use, each through the one module that may import it."""


def modules() -> Iterator[tuple[str, Path, ast.Module]]:
    """Yield the name within the package, the file and the syntax tree of every module."""
    for file in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        if not name.startswith("client.startup"):
            yield name, file, ast.parse(file.read_text())


def imports(name: str, file: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports, ours by their name within the package after a dot."""
    here = name.split(".") if file.name == "__init__.py" and name else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - (node.level - 1)]
            target = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                as_module = PACKAGE.joinpath(*target, alias.name)
                is_module = as_module.with_suffix(".py").is_file() or as_module.is_dir()
                yield "." + ".".join([*target, alias.name] if is_module else target)


@pytest.mark.parametrize(
    ("name", "file", "tree"), [pytest.param(*found, id=found[0] or "__init__") for found in modules()]
)
def test_a_module_imports_only_what_its_wing_may(name: str, file: Path, tree: ast.Module) -> None:
    allowed = MAY_IMPORT[name.split(".", maxsplit=1)[0]]
    for imported in imports(name, file, tree):
        if imported.startswith("."):
            target = imported[1:]
            assert any(target == known or target.startswith(f"{known}.") for known in allowed), (
                f"{name} imports {target}"
            )
        assert not imported.startswith("llm_exporter"), f"{name}: import {imported} relatively"


@pytest.mark.parametrize(("library", "only"), PRIVATE_DEPENDENCIES.items())
def test_unexported_names_of_a_library_are_used_in_one_module(library: str, only: str) -> None:
    users = {
        str(file.relative_to(PACKAGE))
        for name, file, tree in modules()
        for imported in imports(name, file, tree)
        if imported.split(".")[0] == library
    }
    assert users == {only}


def test_no_modules_import_each_other_in_a_cycle() -> None:
    """Imports inside functions are left out: they run later, and break a cycle."""
    edges: dict[str, set[str]] = {}
    for name, file, tree in modules():
        top = ast.Module([node for node in tree.body if not _is_type_checking(node)], [])
        for function in [
            node for node in ast.walk(top) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]:
            function.body = []
        edges[name] = {imported[1:] for imported in imports(name, file, top) if imported.startswith(".")}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " → ".join([*path, name])
        if name not in done:
            for target in edges.get(name, ()):
                visit(target, (*path, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def _is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


# ---- importing does nothing


LOOK = """
import os, sys, threading
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import llm_exporter
{then}
after = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
assert after == before, after - before
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
heavy = {{"pydantic", "yaml", "genai_prices", "prometheus_client", "http.client", "asyncio", "click"}}
loaded = heavy & set(sys.modules)
assert not loaded, loaded
assert not any(os.scandir(sys.argv[1])), os.listdir(sys.argv[1])
"""


@pytest.mark.parametrize("then", ["", "llm_exporter.instrument()"], ids=["import", "instrument"])
def test_importing_and_instrumenting_make_no_file_thread_or_connection(then: str, tmp_path: Path) -> None:
    """Nor do they load what only a metered call or a configuration needs."""
    environment = {
        **os.environ,
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path),
        "LLM_EXPORTER_SPOOL": str(tmp_path),
        "LLM_EXPORTER_URL": "http://127.0.0.1:9",
        "LLM_EXPORTER_LABELS": "not a label",
        "XDG_STATE_HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOK.format(then=then), str(tmp_path)],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


FIRST_CALL = """
import sys
import llm_exporter
llm_exporter.instrument()
import httpx2, openai
from llm_exporter.client.default import pipeline

seen = []
def respond(request):
    seen.append("genai_prices" in sys.modules)
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    return httpx2.Response(200, json={"model": "gpt-4o", "usage": usage})

http_client = openai.DefaultHttpxClient(transport=httpx2.MockTransport(respond))
client = openai.OpenAI(api_key="k", http_client=http_client)
client.chat.completions.create(model="gpt-4o", messages=[])
assert seen == [False], seen
assert pipeline().flush()
assert "genai_prices" in sys.modules
"""


def test_the_first_call_is_sent_before_the_price_table_is_loaded() -> None:
    """The worker thread loads it when the call has ended, so that no call waits for it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST_CALL], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_version_makes_no_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_exporter.cli", "--version"]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert llm_exporter.__version__ in done.stdout
    assert list(tmp_path.iterdir()) == []


# ---- the front door


def test_the_exported_names() -> None:
    """A change here is a change of the public API."""
    assert sorted(llm_exporter.__all__) == [
        "BudgetExceeded",
        "BudgetReached",
        "BudgetStatus",
        "Call",
        "ConfigError",
        "LLMExporterError",
        "ThresholdCrossed",
        "__version__",
        "check_budget",
        "configure",
        "estimate_cost",
        "flush",
        "instrument",
        "labels",
        "make_asgi_app",
        "make_wsgi_app",
        "record",
        "reset",
        "start_http_server",
        "subscribe",
        "totals",
        "uninstrument",
        "unsubscribe",
    ]
    assert sorted(llm_exporter.types.__all__) == [
        "ApproximationReason",
        "BudgetReached",
        "BudgetStatus",
        "Call",
        "CostSource",
        "ErrorKind",
        "Event",
        "Labels",
        "MetricsServer",
        "Period",
        "ThresholdCrossed",
        "TokenType",
        "Totals",
        "Unit",
        "Window",
    ]
    for module in (llm_exporter, llm_exporter.types):
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize(
    ("error", "bases"),
    [(llm_exporter.ConfigError, {ValueError}), (llm_exporter.BudgetExceeded, set())],
)
def test_public_errors_derive_from_the_root_error(error: type[Exception], bases: set[type]) -> None:
    assert {llm_exporter.LLMExporterError, *bases} <= set(error.__mro__)
