"""`llm-exporter run` without a service: calls are kept in the default ledger, and their cost is printed."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest

from llm_exporter.cli.local_run import Collector, collect_ended_runs
from llm_exporter.client.keeping import Keeper
from llm_exporter.client.runs import Run
from llm_exporter.client.spool import Spool, ledger_spool
from llm_exporter.metrics.collector import Metrics
from llm_exporter.service.ledger.base import LedgerError, Query, Totals
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.ledger.store import default_store
from support.awaiting import until
from support.calls import a_call
from support.operations import CHAT
from support.scripted import Server

CALL = """
import sys
import openai

def call(model="gpt-4o"):
    with openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="k") as client:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
"""
TABLE = """
model              agent    calls  errors  input_tokens  output_tokens     USD
gpt-4o-2024-08-06  nightly      2       0         2,400            600  0.0094
total                           2       0         2,400            600  0.0094
"""


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_readme_shows_the_table() -> None:
    assert all(f"\n    {line}\n" in README for line in TABLE.strip().splitlines())


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default ledger, which does not exist yet."""
    for name in ("DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    for name in ("LLM_EXPORTER_URL", "LLM_EXPORTER_SPOOL", "LLM_EXPORTER_KEEP"):
        monkeypatch.delenv(name, raising=False)
    return Path(default_store())


@pytest.fixture
def provider(server: Server) -> Server:
    server.respond_with("/chat/completions", CHAT.responses[False]())
    return server


def command(tmp_path: Path, program: str, *options: str) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(CALL + program)
    return [sys.executable, "-m", "llm_exporter", "run", *options, "--", sys.executable, str(file)]


def run(tmp_path: Path, program: str, *options: str, to: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(tmp_path, program, *options), to], capture_output=True, text=True, check=False
    )


def stored(path: Path) -> Totals:
    ledger = SqliteLedger(path, read_only=True)
    try:
        return ledger.totals(Query()).get((), Totals())
    finally:
        ledger.close()


def test_a_program_is_metered_with_nothing_else_running(
    tmp_path: Path, provider: Server, ledger: Path
) -> None:
    ran = run(tmp_path, "call(); call(); print('out'); sys.exit(7)", "--agent", "nightly", to=provider.url)

    assert (ran.returncode, ran.stdout) == (7, "out\n")
    where = f"Kept in {ledger}: see `llm-exporter report` or `llm-exporter serve`.\n"
    assert ran.stderr == TABLE + where
    reported = subprocess.run(
        [sys.executable, "-m", "llm_exporter", "report", "--by", "agent", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    (row,) = json.loads(reported.stdout)
    assert (row["agent"], row["calls"], row["cost_usd"]) == ("nightly", 2, 0.00944)


@pytest.mark.parametrize("options", [["--quiet"], []], ids=["quiet", "and without calls"])
def test_what_is_printed_can_be_silenced(tmp_path: Path, options: list[str]) -> None:
    ran = run(tmp_path, "", *options)

    assert ran.stderr == ("" if options else "llm-exporter: no LLM calls\n")


def test_the_extra_server_is_not_needed(tmp_path: Path, provider: Server, ledger: Path) -> None:
    (tmp_path / "program.py").write_text(CALL + "call()")
    without = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'bcrypt', 'redis'): sys.modules[name] = None\n"
        "from llm_exporter.cli.main import main\n"
        "main()"
    )
    words = ["run", "--", sys.executable, str(tmp_path / "program.py"), provider.url]
    ran = subprocess.run([sys.executable, "-c", without, *words], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert stored(ledger).calls == 1


CHILDREN = """
import contextlib, os, pathlib, signal, subprocess

kept = pathlib.Path(os.environ["LLM_EXPORTER_KEEP"])
if len(sys.argv) == 2:
    words = [sys.executable, __file__, sys.argv[1]]
    children = [subprocess.Popen([*words, how]) for how in ("ends", "ends", "is killed", "forks")]
    print(*(child.wait() for child in children))
elif sys.argv[2] == "forks":
    call()
    if not (child := os.fork()):
        call()
        sys.exit()
    os.waitpid(child, 0)
else:
    call()
    if sys.argv[2] == "is killed":
        def written():  # the directory is open for a moment, too
            files = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
            return any(os.path.getsize(file) for file in files
                       if os.path.isfile(file) and os.readlink(file).startswith(str(kept)))
        done = False
        while not done:
            with contextlib.suppress(FileNotFoundError):  # another thread has closed one
                done = written()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_calls_of_all_child_processes_are_kept_even_if_one_is_killed(
    tmp_path: Path, provider: Server, ledger: Path
) -> None:
    ran = run(tmp_path, CHILDREN, "--agent", "nightly", to=provider.url)

    assert ran.stdout == "0 0 -9 0\n"
    assert "nightly      5 " in ran.stderr
    assert stored(ledger).calls == 5


def test_a_run_inside_a_run_leaves_its_calls_to_the_outer_one(
    tmp_path: Path, provider: Server, ledger: Path
) -> None:
    inner = command(tmp_path, "call()", "--agent", "nightly")
    file = tmp_path / "outer.py"
    file.write_text(f"{CALL}call(); import subprocess; subprocess.run({[*inner, provider.url]!r})")
    words = ["run", "--agent", "nightly", "--", sys.executable, str(file), provider.url]
    ran = subprocess.run(
        [sys.executable, "-m", "llm_exporter", *words], capture_output=True, text=True, check=False
    )

    assert ran.stderr.startswith(TABLE)
    assert stored(ledger).calls == 2


def test_a_service_on_the_same_ledger_gets_the_calls(tmp_path: Path, provider: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "llm_exporter", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None
            url = service.stdout.readline().rpartition(" ")[2].strip()
            ran = run(tmp_path, "call(); call()", "--agent", "nightly", to=provider.url)
            assert ran.stderr.startswith(TABLE)

            def calls() -> int:
                with urlopen(f"{url}/api/v1/cost?window=1h", timeout=60) as response:
                    return int(json.load(response)["calls"])

            assert until(lambda: calls() == 2)
        finally:
            service.terminate()


def test_the_calls_of_a_run_that_was_killed_are_found_later(
    tmp_path: Path, provider: Server, ledger: Path
) -> None:
    program = "call(); print('waits', flush=True); sys.stdin.read(); call()"
    with subprocess.Popen(
        [*command(tmp_path, program), provider.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"waits\n"
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.read()  # until the program, which goes on, has ended

    def found() -> bool:
        collect_ended_runs()
        return ledger.exists() and stored(ledger).calls == 2

    assert until(found)
    assert list((tmp_path / "STATE/llm-exporter/spool/runs").iterdir()) == []


WAITS = """
import os, signal
signal.signal(signal.SIGINT, lambda *_: os.write(1, b"interrupted\\n"))  # `print` may be running already
print("waits", flush=True)
while True:
    signal.pause()
"""


def test_signals_reach_the_program_which_decides_how_the_command_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path, WAITS), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"interrupted\n"
        process.terminate()
        assert process.wait() == -signal.SIGTERM


def test_control_c_in_a_terminal_reaches_the_program_once(tmp_path: Path) -> None:
    words = command(tmp_path, WAITS)
    pid, terminal = pty.fork()
    if not pid:
        os.execv(words[0], words)  # noqa: S606
    said = b""

    def wait_for(text: bytes) -> None:
        nonlocal said
        while text not in said:
            said += os.read(terminal, 1024)

    wait_for(b"waits")
    os.write(terminal, b"\x03")
    wait_for(b"interrupted")
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    said += os.read(terminal, 1024)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert said.count(b"interrupted") == 1


# ---- collecting


@pytest.fixture
def begun() -> Iterator[Run]:
    run = Run()
    yield run
    run.end()


def keep(begun: Run, *ids: str, **fields: object) -> None:
    """Write calls as a process of the run does, which then ends."""
    file = Spool(begun.directory).new_file()
    file.append(msgspec.json.encode(a_call(id=name, **fields)) for name in ids)
    file.close()


def test_calls_are_collected_while_the_program_runs(begun: Run, ledger: Path) -> None:
    keeper = Keeper(begun.directory, Metrics())
    collector = Collector(begun)
    keeper.add(a_call(id="1"))

    def collected() -> bool:
        collector.collect()
        return ledger.exists()

    assert until(collected)
    keeper.add(a_call(id="2"))
    keeper.end(time.monotonic() + 60)
    keeper.join()
    collector.collect()
    assert stored(ledger).calls == 2
    assert "planner      2 " in "\n".join(collector.summary())


def test_tokens_without_a_price_never_look_free(begun: Run) -> None:
    keep(begun, "1", model="zebra-9", cost={}, unpriced_tokens=120)
    keep(begun, "2", model="gpt-5", cost={"input": 0.00025})
    keep(begun, "3", model="gpt-5", cost={}, unpriced_tokens=120, labels={})
    keep(begun, "4", model="gpt-5", labels={}, approximated={"tier": 120})
    collector = Collector(begun)
    collector.collect()
    assert list(collector.summary())[:-1] == [
        "",
        "model    agent         calls  errors  input_tokens  output_tokens                  USD",
        "gpt-5    unattributed      2       0           200             40  0.750000 + unpriced",
        "gpt-5    planner           1       0           100             20             0.000250",
        "zebra-9  planner           1       0           100             20             unpriced",
        "total                      4       0           400             80  0.750250 + unpriced",
        "240 tokens have no known price.",
        "120 tokens have an approximate cost.",
    ]


def test_calls_that_cannot_be_stored_yet_wait_and_are_counted_once(
    begun: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(begun, "1", "2", "3")
    monkeypatch.setattr("llm_exporter.cli.local_run._BATCH_CALLS", 2)
    add = SqliteLedger.add
    monkeypatch.setattr(SqliteLedger, "add", _fails_on_the_second(add))
    collector = Collector(begun)
    collector.collect()
    assert next(iter(collector.summary())) == "llm-exporter: the last calls are not in the ledger yet: full"
    monkeypatch.setattr(SqliteLedger, "add", add)
    collector.collect()
    assert "total               3 " in "\n".join(collector.summary())
    assert stored(Path(default_store())).calls == 3


def _fails_on_the_second(add: object) -> object:
    seen: list[object] = []

    def fails(self: SqliteLedger, calls: object) -> object:
        seen.append(calls)
        if len(seen) == 2:
            raise LedgerError("full")
        return add(self, calls)  # type: ignore[operator]

    return fails


def test_a_ledger_in_use_leaves_the_calls_to_whoever_uses_it(begun: Run, ledger: Path) -> None:
    keep(begun, "1")
    service = SqliteLedger(ledger)
    collector = Collector(begun)
    collector.collect()
    assert "planner      1 " in "\n".join(collector.summary())
    assert len(list(ledger_spool().glob("*.jsonl"))) == 1
    service.close()
    collect_ended_runs()
    assert stored(ledger).calls == 1


def test_a_budget_of_the_service_is_charged_calls_that_it_has_not_seen(begun: Run, ledger: Path) -> None:
    """It is charged all calls of its period again when the service starts."""
    service = SqliteLedger(ledger)
    service.register_rules(["budget"])
    service.close()
    keep(begun, "1")
    Collector(begun).collect()
    service = SqliteLedger(ledger)
    service.register_rules(["budget"])
    assert service.rules_behind() == {"budget"}
    service.close()


def test_a_call_that_cannot_be_read_is_named(begun: Run) -> None:
    (begun.directory / "x.jsonl").write_text("nonsense\n")
    collector = Collector(begun)
    collector.collect()
    assert list(collector.summary()) == [
        "llm-exporter: 1 calls could not be read",
        "llm-exporter: no LLM calls",
    ]
