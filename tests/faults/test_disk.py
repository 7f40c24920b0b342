"""Disks are full, and files are damaged or deleted."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

CALLS = 50


@pytest.fixture(autouse=True)
def _provider_responds(server: Server) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())


@contextmanager
def disk_is_full(pid: int) -> Iterator[None]:
    """No file of a process can grow, while it lives."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def is_ready(service: Served) -> bool:
    try:
        return service.get_text("/-/ready") == "ready\n"
    except HTTPError as error:
        error.close()
        return error.code != 503


def test_ledger_on_full_disk(server: Server, tmp_path: Path, record: Record) -> None:
    with Served(tmp_path) as service, Agent(service, server) as agent:
        agent.call(CALLS)
        with disk_is_full(service.pid):
            agent.call(CALLS)
            until(lambda: "the service is unavailable" in agent.log)
        agent.call(CALLS)
        agent.end()
        until(lambda: len(kept(service)) >= 3 * CALLS)
        assert record(
            "the disk of the ledger is full",
            f"during {CALLS} of {3 * CALLS} calls; then it has space again",
            agent.made,
            kept(service),
            seen="log of the process, with the error of SQLite; `/-/ready` is 503 below 16 MB",
        ) == (0, 0)


def overwrite(ledger: Path) -> None:
    ledger.write_bytes(b"junk" * 10_000)


def truncate(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:10_000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [(overwrite, "file is not a database"), (truncate, "database disk image is malformed")],
)
def test_damaged_ledger(
    damage: Callable[[Path], None], message: str, server: Server, tmp_path: Path, record: Record
) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        with service:
            agent.call(CALLS)
            until(lambda: len(kept(service)) == CALLS)
        damage(service.ledger)
        command = [
            sys.executable,
            "-m",
            "llm_exporter.cli",
            "serve",
            "--port",
            "0",
            "--store",
            str(service.ledger),
        ]
        refused = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr) == (2, f"Error: {service.ledger}: {message}\n")
        agent.call(CALLS)
        service.ledger.rename(tmp_path / "damaged.db")
        with service:
            agent.end()
            until(lambda: len(kept(service)) >= CALLS)
            assert record(
                f"something else {damage.__name__}s the ledger while the service is stopped",
                f"after {CALLS} of {2 * CALLS} calls; then the file is moved away",
                agent.made,
                kept(service),
                seen=f"`serve` exits with status 2: `{message}`; alert `LLMExporterDown`",
            ) == (CALLS, 0)  # those in the damaged file


def test_deleted_ledger(server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        with service:
            agent.call(CALLS)
            until(lambda: len(kept(service)) == CALLS)
            for file in tmp_path.glob("ledger.db*"):
                file.unlink()
            agent.call(CALLS)
            until(lambda: "the service is unavailable" in agent.log)
            until(lambda: not is_ready(service))
        with service:
            agent.end()
            until(lambda: len(kept(service)) >= CALLS)
            assert record(
                "somebody deletes the ledger while the service runs",
                f"after {CALLS} of {2 * CALLS} calls; then the service is restarted",
                agent.made,
                kept(service),
                seen="`/-/ready` is 503; log of the process",
            ) == (CALLS, 0)  # those in the deleted file


def test_spool_on_full_disk(server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        with disk_is_full(agent.process.pid):
            agent.call(CALLS)
            with service:
                until(lambda: len(kept(service)) >= CALLS)
        with service:
            agent.call(CALLS)
            agent.end()
            until(lambda: len(kept(service)) >= 2 * CALLS)
            assert record(
                "the disk of the spool is full while the service is absent",
                f"during {CALLS} of {2 * CALLS} calls; then the service is back",
                agent.made,
                kept(service),
                seen="log of the process: `cannot keep calls on disk`; 20,000 calls wait in memory",
            ) == (0, 0)


def test_spool_on_full_disk_to_the_end(server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        with disk_is_full(agent.process.pid):
            agent.call(CALLS)
            agent.end()
        with service:
            assert record(
                "the disk of the spool is full while the service is absent, and the process ends",
                f"after {CALLS} calls",
                agent.made,
                kept(service),
                seen="log of the process: `cannot keep calls on disk`",
            ) == (CALLS, 0)


def test_strange_files_in_the_spool(server: Server, tmp_path: Path, record: Record) -> None:
    service = Served(tmp_path)
    with Agent(service, server) as agent:
        agent.call(CALLS)
        agent.end()
    file, *_ = (tmp_path / "spool").rglob("*.jsonl")
    with file.open("ab") as end:
        end.write(b'not json\n{"provider": "openai"}\n[]\n\xff\xfe\n\x00\n{"provider": "open')
    directory = file.parent
    (directory / "0-junk.jsonl").write_bytes(bytes(range(256)) * 100)
    (directory / "0-empty.jsonl").touch()
    (directory / "0-directory.jsonl").mkdir()
    (directory / "0-nowhere.jsonl").symlink_to(tmp_path / "nowhere")
    (directory / "0-link.jsonl").symlink_to("/etc/passwd")
    os.mkfifo(directory / "0-fifo.jsonl")
    with service:
        until(lambda: len(kept(service)) >= CALLS)
        assert record(
            "the spool has files of somebody else",
            "bad lines, binary data, an empty file, a directory, a FIFO, two symbolic links",
            agent.made,
            kept(service),
            seen="log; `*.bad` and `*.refused` files in the spool",
        ) == (0, 0)
