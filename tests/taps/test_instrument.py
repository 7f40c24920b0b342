"""`instrument` and `uninstrument` decide which clients are metered."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.machinery import SourceFileLoader
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import anthropic
import openai
import pytest
from google import genai

import llm_exporter
from llm_exporter.client import default
from llm_exporter.taps.imports import ImportHook
from llm_exporter.taps.switch import Switch
from support.metered import Metered
from support.operations import CHAT, GEMINI, MESSAGES, Format, Operation
from support.scripted import Server

FORMATS = pytest.mark.parametrize("wire", [CHAT, MESSAGES, GEMINI], ids=lambda wire: wire.name)


def call(wire: Format, client: Any) -> None:
    wire.call(client, False)


@FORMATS
def test_a_client_is_metered_once_however_often_it_is_instrumented(
    wire: Format, server: Server, metered: Metered
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    client = operation.client(server.url)
    llm_exporter.instrument(client)
    llm_exporter.instrument()
    llm_exporter.instrument(client)
    operation.run(client)
    assert metered.total("llm_calls_total") == 1


@FORMATS
def test_other_clients_are_not_metered(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    other = operation.client(server.url)
    with llm_exporter.instrument(operation.client(server.url)):
        operation.run(other)
    assert metered.calls == []


@FORMATS
def test_instrument_meters_every_client_made_before_and_after(
    wire: Format, server: Server, metered: Metered
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    before = operation.client(server.url)
    llm_exporter.instrument()
    after = operation.client(server.url)
    operation.run(before)
    operation.run(after)
    assert len(metered.calls) == 2


@FORMATS
def test_uninstrument_stops_metering_one_client(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    client = llm_exporter.instrument(operation.client(server.url))
    with client:
        call(wire, client)
        assert llm_exporter.uninstrument(client) is client
        call(wire, client)
    assert len(metered.calls) == 1


@FORMATS
def test_uninstrument_excludes_one_client_from_all(wire: Format, server: Server, metered: Metered) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    llm_exporter.instrument()
    operation.run(llm_exporter.uninstrument(operation.client(server.url)))
    assert metered.calls == []


def test_copies_of_a_client_are_metered_with_it(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    with llm_exporter.instrument(operation.client(server.url)) as client:
        call(CHAT, client.with_options(timeout=5, max_retries=0))
    assert metered.call.tokens == CHAT.tokens


def test_other_requests_of_the_users_http_client_are_not_calls(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    with openai.DefaultHttpxClient() as http:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="k", http_client=http)
        call(CHAT, llm_exporter.instrument(client))
        http.post(server.url + "/v1/chat/completions", json={})
    assert len(metered.calls) == 1


def test_an_event_hook_of_the_users_http_client_still_runs(server: Server, metered: Metered) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    seen: list[int] = []
    hooks: Any = {"response": [lambda response: seen.append(response.status_code)]}
    with openai.DefaultHttpxClient(event_hooks=hooks) as http:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="k", http_client=http)
        call(CHAT, llm_exporter.instrument(client))
    assert seen == [200]
    assert len(metered.calls) == 1


@pytest.mark.parametrize("client", [object(), "openai", 7, openai], ids=["object", "str", "int", "module"])
def test_an_object_that_is_not_a_client_is_a_type_error(client: object) -> None:
    with pytest.raises(TypeError, match=f"not a client of openai, .*: {type(client).__name__}"):
        llm_exporter.instrument(client)


BASES = {
    "chat": "openai._base_client",
    "messages": "anthropic._base_client",
    "gemini": "google.genai._api_client",
}
"""The module of each SDK that its tap patches first."""


@FORMATS
def test_an_unsupported_release_of_an_sdk_is_not_metered_and_logs_a_warning(
    wire: Format,
    server: Server,
    metered: Metered,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: Callable[[], list[logging.LogRecord]],
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    client = operation.client(server.url)
    monkeypatch.setitem(sys.modules, BASES[wire.name], ModuleType("empty"))
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        assert llm_exporter.instrument(client) is client
    operation.run(client)
    assert metered.calls == []
    (record,) = said()
    sdk = {"chat": openai, "messages": anthropic, "gemini": genai}[wire.name]
    assert record.getMessage().startswith(f"llm-exporter: cannot meter {sdk.__name__} {sdk.__version__}: ")


def test_instrument_warns_of_every_unsupported_sdk(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: Callable[[], list[logging.LogRecord]],
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)  # as if it were not installed
    for base in BASES.values():
        monkeypatch.setitem(sys.modules, base, ModuleType("empty"))
    with caplog.at_level(logging.WARNING, "llm_exporter"):
        llm_exporter.instrument()
    assert [record.getMessage().split()[3] for record in said()] == ["anthropic", "google.genai"]


def test_instrument_works_with_no_sdk_installed() -> None:
    script = """
import sys
for sdk in ("openai", "anthropic", "google.genai", "google", "starlette", "uvicorn"):
    sys.modules[sdk] = None
import llm_exporter
llm_exporter.instrument()
llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1})
"""
    assert run(script) == ""  # no warning about a missing SDK


NOT_IMPORTED = """
sdks = {"openai", "anthropic", "google.genai", "starlette", "aiohttp", "pydantic", "yaml"}
taps = {f"llm_exporter.taps.{name}" for name in ("openai", "anthropic", "google", "boundary", "response")}
ours = taps | {f"llm_exporter.{name}" for name in ("client.meter", "client.pipeline", "wire.reader")}
assert not (sdks | ours) & set(sys.modules), (sdks | ours) & set(sys.modules)
"""


def run(script: str, *arguments: object) -> str:
    """Run a program in a new process, where no SDK is imported yet, and return its output."""
    program = [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_importing_the_package_imports_neither_an_sdk_nor_a_tap() -> None:
    run(f"import sys, llm_exporter\n{NOT_IMPORTED}")


def test_instrument_imports_neither_an_sdk_nor_a_tap() -> None:
    run(f"import sys, llm_exporter; llm_exporter.instrument()\n{NOT_IMPORTED}")


@pytest.mark.parametrize(
    ("sdk", "taps"),
    [
        ("openai", {"openai"}),
        ("anthropic", {"anthropic"}),
        ("google.genai", {"google"}),
    ],
)
def test_importing_an_sdk_loads_its_own_tap_and_makes_the_pipeline(sdk: str, taps: set[str]) -> None:
    script = f"""
import sys, llm_exporter
from llm_exporter.client import default
llm_exporter.instrument()
assert default._pipeline is None
import {sdk}
assert default._pipeline is not None
loaded = {{name for name in ("openai", "anthropic", "google") if "llm_exporter.taps." + name in sys.modules}}
assert loaded == {taps}, loaded
"""
    assert run(script) == ""


@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google.genai"])
def test_an_sdk_can_be_imported_when_the_pipeline_cannot_be_made(sdk: str) -> None:
    script = f"""
import llm_exporter
from llm_exporter.client import default
def fail(): raise OSError("no space left")
default.pipeline = fail
llm_exporter.instrument()
import {sdk}
"""
    assert "OSError: no space left" in run(script)


# ---- the configuration file that the environment names

BLOCKED = "budgets: [{name: nothing, period: day, usd: 0.000001, on_exceed: block}]"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that LLM_EXPORTER_CONFIG names, which blocks every call."""
    file = tmp_path / "llm-exporter.yml"
    file.write_text(BLOCKED)
    monkeypatch.setenv("LLM_EXPORTER_CONFIG", str(file))
    return file


@FORMATS
@pytest.mark.parametrize("each", [False, True], ids=["all clients", "one client"])
@pytest.mark.usefixtures("config")
def test_instrument_follows_the_configuration_file(
    each: bool, wire: Format, server: Server, metered: Metered
) -> None:
    client = Operation(wire, "sync", stream=False).client(server.url)
    llm_exporter.instrument(client if each else None)
    with client, pytest.raises(llm_exporter.BudgetExceeded, match="nothing"):
        call(wire, client)
    assert server.requests == []
    assert metered.call.budget == "nothing"


@pytest.mark.usefixtures("config")
def test_a_pipeline_that_is_made_later_follows_the_configuration_file(server: Server) -> None:
    script = """
import sys
import llm_exporter
from llm_exporter.client import default
llm_exporter.instrument()
assert default._pipeline is None
from openai import OpenAI
try: OpenAI(base_url=sys.argv[1], api_key="k").chat.completions.create(model="gpt-4o", messages=[])
except llm_exporter.BudgetExceeded as exceeded: print(exceeded.budget)
"""
    assert run(script, server.url).splitlines()[0] == "nothing"
    assert server.requests == []


@pytest.mark.parametrize("first", ["configure", "instrument"])
def test_a_file_that_the_program_loads_wins(
    first: str, config: Path, tmp_path: Path, server: Server, metered: Metered
) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    other = tmp_path / "other.yml"
    other.write_text("providers: {localhost: vllm}")
    if first == "configure":
        llm_exporter.configure(other)
        llm_exporter.instrument()
    else:
        llm_exporter.instrument()
        llm_exporter.configure(other)
    operation.run(operation.client(server.url))
    assert metered.call.usage_reported


@pytest.mark.usefixtures("pipeline")
def test_the_file_is_loaded_once(config: Path) -> None:
    """Under `llm-exporter run`, the program that calls `instrument` is not the one that was checked."""
    llm_exporter.configure()
    config.write_text("budgets: [")
    llm_exporter.instrument()
    llm_exporter.instrument(openai.OpenAI(api_key="k"))
    with pytest.raises(llm_exporter.ConfigError, match="invalid YAML"):
        llm_exporter.configure()


@pytest.mark.usefixtures("_nothing_is_metered", "pipeline")
@pytest.mark.parametrize("text", ["budgets: [", "budgets: [{name: each}]", None])
def test_a_bad_file_is_an_error_and_nothing_is_metered(
    text: str | None, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_URL", "http://127.0.0.1:9")
    if text is None:
        config.unlink()
    else:
        config.write_text(text)
    own = methods_of("openai")
    for client in (None, openai.OpenAI(api_key="k")):
        with pytest.raises(llm_exporter.ConfigError, match=str(config)):
            llm_exporter.instrument(client)
    assert methods_of("openai") == own
    assert default._service == ""


# ---- the SDKs' own methods

METHODS = {
    "openai": [
        "openai._base_client:SyncAPIClient.request",
        "openai._base_client:AsyncAPIClient.request",
        "openai.resources.realtime.realtime:RealtimeConnectionManager.__enter__",
        "openai.resources.realtime.realtime:RealtimeConnectionManager.enter",
        "openai.resources.realtime.realtime:RealtimeConnectionManager._connect_ws",
        "openai.resources.realtime.realtime:AsyncRealtimeConnectionManager.__aenter__",
        "openai.resources.realtime.realtime:AsyncRealtimeConnectionManager._connect_ws",
        "openai.resources.beta.realtime.realtime:RealtimeConnectionManager.__enter__",
        "openai.resources.beta.realtime.realtime:AsyncRealtimeConnectionManager.enter",
        "openai.resources.responses.responses:ResponsesConnectionManager._connect_ws",
        "openai.resources.responses.responses:AsyncResponsesConnectionManager._connect_ws",
        "openai.resources.beta.responses.responses:ResponsesConnectionManager._connect_ws",
    ],
    "anthropic": [
        "anthropic._base_client:SyncAPIClient.request",
        "anthropic._base_client:AsyncAPIClient.request",
    ],
    "google": [
        "google.genai._api_client:BaseApiClient._request",
        "google.genai._api_client:BaseApiClient._async_request",
        "google.genai._api_client:BaseApiClient._request_once",
        "google.genai._api_client:BaseApiClient._async_request_once",
        "google.genai._api_client:BaseApiClient.download_file",
        "google.genai._api_client:BaseApiClient.async_download_file",
        "google.genai.live:AsyncLive.connect",
        "google.genai.live_music:AsyncLiveMusic.connect",
        "google.genai._gaos.basesdk:BaseSDK.do_request",
        "google.genai._gaos.basesdk:AsyncBaseSDK.do_request_async",
    ],
}
"""The methods of each SDK that may be patched; not every release has all of them."""


@pytest.fixture
def _nothing_is_metered() -> None:
    """Forget clients of earlier tests."""
    gc.collect()
    llm_exporter.uninstrument()


def methods_of(sdk: str) -> dict[str, object]:
    """Return the methods that the installed release of an SDK has."""
    found = {}
    for name in METHODS[sdk]:
        module, _, method = name.partition(":")
        try:
            found[name] = attrgetter(method)(import_module(module))
        except (ImportError, AttributeError):
            continue
    return found


@pytest.mark.usefixtures("_nothing_is_metered")
@pytest.mark.parametrize("sdk", METHODS)
def test_uninstrument_puts_the_methods_of_an_sdk_back(sdk: str) -> None:
    own = methods_of(sdk)
    for _ in range(2):
        llm_exporter.instrument()
        patched = {name for name, method in methods_of(sdk).items() if method is not own[name]}
        assert {name.partition(":")[0] for name in patched} == {name.partition(":")[0] for name in own}
        llm_exporter.uninstrument()
        assert methods_of(sdk) == own


@pytest.mark.usefixtures("_nothing_is_metered")
@FORMATS
def test_uninstrument_of_the_last_client_puts_the_methods_back(
    wire: Format, server: Server, metered: Metered
) -> None:
    sdk = {"chat": "openai", "messages": "anthropic", "gemini": "google"}[wire.name]
    own = methods_of(sdk)
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    first, second = (llm_exporter.instrument(operation.client(server.url)) for _ in range(2))
    with first, second:
        call(wire, first)
        llm_exporter.uninstrument()
        llm_exporter.uninstrument(first)
        call(wire, first)
        call(wire, second)
        assert methods_of(sdk) != own
        llm_exporter.uninstrument(second)
        assert methods_of(sdk) == own
        call(wire, second)
        llm_exporter.instrument(second)
        call(wire, second)
    assert len(metered.calls) == 3


def test_a_method_that_another_library_wrapped_after_us_passes_calls_through(
    server: Server, metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    llm_exporter.instrument()
    ours: Any = openai.OpenAI.request
    traced: list[None] = []

    def theirs(*args: Any, **kwargs: Any) -> Any:
        traced.append(None)
        return ours(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("openai._base_client.SyncAPIClient.request", theirs)
        with operation.client(server.url) as client:
            call(CHAT, client)
            llm_exporter.uninstrument()
            call(CHAT, client)
            llm_exporter.instrument()
            call(CHAT, client)
    assert (len(traced), len(metered.calls)) == (3, 2)


METERED = """
import importlib, importlib.util, sys, threading
import llm_exporter
from llm_exporter.client.default import pipeline
url, directory = sys.argv[1:]
calls = []
llm_exporter.subscribe(calls.append)
llm_exporter.instrument()
{imports}
{call}
pipeline().flush()
print(len(calls))
"""
"""Prints the number of metered calls of an SDK that is imported after `instrument`."""

CHAT_CALL = """
from openai import OpenAI
OpenAI(base_url=url + "/v1", api_key="k").chat.completions.create(model="gpt-4o", messages=[])
"""
MESSAGES_CALL = """
from anthropic import Anthropic
Anthropic(base_url=url, api_key="k").messages.create(model="claude-sonnet-4-6", max_tokens=9, messages=[])
"""
GEMINI_CALL = """
from google import genai
client = genai.Client(api_key="k", vertexai=False, http_options={"base_url": url})
client.models.generate_content(model="gemini-2.5-pro", contents="How many?")
"""


@pytest.mark.parametrize(
    ("wire", "call"), [(CHAT, CHAT_CALL), (MESSAGES, MESSAGES_CALL), (GEMINI, GEMINI_CALL)], ids=lambda _: ""
)
def test_an_sdk_that_is_imported_later_is_metered(
    wire: Format, call: str, server: Server, tmp_path: Path
) -> None:
    operation = Operation(wire, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    assert run(METERED.format(imports="", call=call), server.url, tmp_path) == "1\n"


WAYS_TO_IMPORT = {
    "the package": "import openai",
    "a submodule first": "import openai.resources",
    "the tapped module first": "import openai._base_client",
    "by its name": 'importlib.import_module("openai.types")',
    "in threads": """
threads = [threading.Thread(target=importlib.import_module, args=("openai",)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()""",
    "by a framework": "sys.path.append(directory); import framework; framework.start()",
    "lazily": """
spec = importlib.util.find_spec("openai")
spec.loader = importlib.util.LazyLoader(spec.loader)
openai = sys.modules["openai"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(openai)
assert "openai._client" not in sys.modules""",
    "through another hook": """
class Hook:
    def find_spec(self, name, path=None, target=None):
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        return next(filter(None, found), None)
sys.meta_path.insert(0, Hook())
import openai""",
    "after it was looked for": 'assert importlib.util.find_spec("openai").loader.is_package("openai")',
    "after an import that failed": """
sys.modules["openai._base_client"] = None
try: import openai
except ImportError: del sys.modules["openai._base_client"]
else: raise AssertionError""",
    "a second time": """
import openai
for name in [name for name in sys.modules if name.split(".")[0] == "openai"]: del sys.modules[name]""",
}


@pytest.mark.parametrize("imports", WAYS_TO_IMPORT.values(), ids=WAYS_TO_IMPORT)
def test_an_sdk_is_metered_however_it_is_imported(imports: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / "framework.py").write_text("def start():\n    from openai.resources import Chat\n")
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    assert run(METERED.format(imports=imports, call=CHAT_CALL), server.url, tmp_path) == "1\n"


def test_an_sdk_that_is_imported_after_uninstrument_is_not_patched(server: Server, tmp_path: Path) -> None:
    imports = """
before = list(sys.meta_path)
llm_exporter.uninstrument()
ours = [finder for finder in before if type(finder).__module__.startswith("llm_exporter")]
assert ours and sys.meta_path == [finder for finder in before if finder not in ours]
import openai
assert openai.OpenAI.request.__module__ == "openai._base_client"
assert not hasattr(openai.OpenAI.request, "__wrapped__")
"""
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    assert run(METERED.format(imports=imports, call=CHAT_CALL), server.url, tmp_path) == "0\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of an importable module `awaited`."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "awaited.py"
    sys.modules.pop("awaited", None)


@pytest.fixture
def hook() -> Iterator[ImportHook]:
    hook = ImportHook()
    yield hook
    hook.forget(["awaited", "missing"])
    assert hook not in sys.meta_path


def test_an_awaited_module_has_its_own_loader(package: Path, hook: ImportHook) -> None:
    package.write_text("loader = __loader__\nof_spec = __spec__.loader\n")
    seen: list[ModuleType] = []
    hook.expect("awaited", seen.append)
    module = import_module("awaited")
    assert seen == [module]
    assert type(module.__loader__) is SourceFileLoader
    assert module.__loader__ is module.loader is module.of_spec is module.__spec__.loader  # type: ignore[union-attr]


def test_an_awaited_import_raises_its_own_error(package: Path, hook: ImportHook) -> None:
    error = "class Error(BaseException): pass\nraise Error('no')\n"
    package.write_text(error)
    seen: list[ModuleType] = []
    hook.expect("awaited", seen.append)
    hook.expect("missing", seen.append)
    with pytest.raises(BaseException, match="no") as raised:
        import_module("awaited")
    assert type(raised.value).__module__ == "awaited"
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'missing'$"):
        import_module("missing")
    assert seen == []
    assert "awaited" not in sys.modules


def test_a_second_importing_thread_waits_until_the_tap_is_installed(package: Path, hook: ImportHook) -> None:
    package.write_text("")
    installing, may_install = threading.Event(), threading.Event()
    steps: list[str] = []

    def imported(_: ModuleType) -> None:
        installing.set()
        assert may_install.wait(30)
        steps.append("tapped")

    def use() -> None:
        import_module("awaited")
        steps.append("used")

    hook.expect("awaited", imported)
    first = threading.Thread(target=use)
    first.start()
    assert installing.wait(30)
    second = threading.Thread(target=use)
    second.start()
    may_install.set()
    first.join()
    second.join()
    assert steps == ["tapped", "used", "used"]


def test_an_sdk_that_another_thread_is_importing_is_metered(server: Server, tmp_path: Path) -> None:
    """`instrument` then finds the module half executed."""
    imports = """
llm_exporter.uninstrument()
thread = threading.Thread(target=importlib.import_module, args=("openai",))
thread.start()
while "openai" not in sys.modules: pass
llm_exporter.instrument()
thread.join()
"""
    operation = Operation(CHAT, "sync", stream=False)
    server.respond_with(operation.path, operation.response())
    assert run(METERED.format(imports=imports, call=CHAT_CALL), server.url, tmp_path) == "1\n"


def test_a_switch_that_no_client_was_named_to_looks_at_no_client() -> None:
    """Looking lays out the client's dictionary, and CPython 3.11 crashes if two threads do so at once."""
    switch = Switch()
    switch.everything = True
    has_no_dictionary = object()
    assert switch.is_on(has_no_dictionary)
    assert switch.asks_for_usage(has_no_dictionary) is None
