"""Calls reach the service once each, whatever fails on the way."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import llm_exporter
from llm_exporter import Call
from llm_exporter.client.connection import Connection
from llm_exporter.client.connection import Request as Sent
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.shipping import Shipper
from llm_exporter.client.spool_file import SpoolFile
from llm_exporter.metrics.collector import Metrics
from support.awaiting import DEADLINE, until
from support.calls import a_call
from support.metered import Metered
from support.operations import CHAT, Operation
from support.scripted import Request, Response, Server
from support.served import Served


def receipt(request: Request) -> bytes:
    """Acknowledge every call of a request."""
    number = len(msgspec.json.decode(gzip.decompress(request.body)))
    return b'{"accepted": %d, "duplicates": 0}' % number


ACKNOWLEDGED = Response(b"", answer=receipt)
AWAY = Response(b"the ledger is unavailable", status=503)
REFUSED = Response(b'{"detail": "invalid calls"}', status=400)
CALLS = "/api/v1/calls"


def received(server: Server) -> list[str]:
    """The ids of the calls in each request, in order."""
    decode = msgspec.json.Decoder(list[Call]).decode
    return [
        call.id
        for request in server.requests
        if request.target == CALLS
        for call in decode(gzip.decompress(request.body))
    ]


class Signals:
    """Metrics that signal each count."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.changed = threading.Condition()
        count = self.metrics.count

        def counted(*arguments: object) -> None:
            with self.changed:
                count(*arguments)  # type: ignore[arg-type]
                self.changed.notify_all()

        self.metrics.count = counted  # type: ignore[assignment]

    def wait(self, name: str, value: float) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.total(name) == value, DEADLINE), self.total(name)

    def total(self, name: str) -> float:
        return sum(
            sample.value
            for family in self.metrics.collect()
            for sample in family.samples
            if sample.name == name
        )


@pytest.fixture
def signals() -> Signals:
    return Signals()


@pytest.fixture
def ship(server: Server, signals: Signals, tmp_path: Path) -> Iterator[Callable[..., Shipper]]:
    """Make a shipper to the test's server."""
    made: list[Shipper] = []

    def make(spool: Path = tmp_path, **options: Any) -> Shipper:
        made.append(Shipper(server.url, signals.metrics, spool, **options))
        return made[-1]

    yield make
    for shipper in made:
        close(shipper)


def close(shipper: Shipper) -> None:
    """Close it, and wait until it is closed."""
    shipper.end(time.monotonic() + DEADLINE)
    shipper.join()


def written(directory: Path) -> list[str]:
    """The ids of the calls in the files in a directory, in order."""
    lines: list[bytes] = []
    for path in sorted(directory.glob("*.jsonl")):
        with suppress(FileNotFoundError):  # it has been sent since
            lines += path.read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Call).id for line in lines]


def test_a_batch_that_is_too_large_is_shipped_in_parts(tmp_path: Path) -> None:
    """600 calls with 31 kB of labels each exceed what the service accepts in one request."""
    labels = {f"{number:0256}": "v" * 256 for number in range(60)}
    calls = [a_call(id=f"c-{number}", labels=labels) for number in range(600)]
    metrics = Metrics()
    with Served(tmp_path) as served:
        shipper = Shipper(served.url, metrics, tmp_path / "own")
        for call in calls:
            shipper.add(call)
        close(shipper)
        assert served.get("/api/v1/report?by=provider")["rows"][0]["calls"] == 600
        refused = 'llm_exporter_refused_requests_total{reason="size"} '
        assert float(served.get_text("/metrics").partition(refused)[2].split("\n")[0]) >= 1
    assert counted(metrics, "llm_exporter_shipped_calls_total") == 600
    assert counted(metrics, "llm_exporter_dropped_calls_total") == 0


def test_only_the_call_that_is_too_large_is_set_aside(
    ship: Callable[..., Shipper], server: Server, signals: Signals, tmp_path: Path
) -> None:
    too_large = Response(b'{"detail": "call 2 exceeds 1048576 bytes"}', status=413)
    # All four, the first two, the other two, and each of these.
    server.respond_with(CALLS, too_large, ACKNOWLEDGED, too_large, too_large, ACKNOWLEDGED)
    calls = [a_call(id=f"c-{number}") for number in range(4)]
    (tmp_path / "0.jsonl").write_bytes(b"".join(msgspec.json.encode(call) + b"\n" for call in calls))
    ship()
    signals.wait("llm_exporter_shipped_calls_total", 3)
    signals.wait("llm_exporter_dropped_calls_total", 1)
    assert len(server.requests) == 5
    (file,) = tmp_path.glob("*.refused")
    assert [msgspec.json.decode(line)["id"] for line in file.read_text().splitlines()] == ["c-2"]


def counted(metrics: Metrics, name: str) -> float:
    return sum(
        sample.value for family in metrics.collect() for sample in family.samples if sample.name == name
    )


def test_calls_are_shipped_in_batches(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, ACKNOWLEDGED)
    shipper = ship()
    calls = [a_call() for _ in range(1500)]
    for call in calls:
        shipper.add(call)
    signals.wait("llm_exporter_shipped_calls_total", 1500)
    assert received(server) == [call.id for call in calls]
    assert len(server.requests) < 10
    until(lambda: written(tmp_path) == [])
    close(shipper)
    assert list(tmp_path.iterdir()) == []


def test_calls_are_on_disk_before_they_are_sent_and_until_they_are_acknowledged(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    """The service receives a batch, and more calls arrive, before it acknowledges."""
    on_disk: list[list[str]] = []
    may_answer = threading.Event()

    def answer(request: Request) -> bytes:
        on_disk.append(written(tmp_path))
        return receipt(request)

    gated = Response(b"", answer=answer, before={0: may_answer})
    server.respond_with(CALLS, gated, Response(b"", answer=answer))
    shipper = ship()
    shipper.add(a_call(id="first"))
    until(lambda: on_disk)
    for name in ("second", "third"):
        shipper.add(a_call(id=name))
    until(lambda: written(tmp_path) == ["first", "second", "third"])
    may_answer.set()
    signals.wait("llm_exporter_shipped_calls_total", 3)
    assert on_disk == [["first"], ["second", "third"]]
    until(lambda: written(tmp_path) == [])


def test_a_call_is_written_once_and_at_once(
    ship: Callable[..., Shipper], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent before the calls are on disk: the time to gather applies to requests only."""
    monkeypatch.setattr("llm_exporter.client.shipping._LINGER_SECONDS", 3600)
    writes: list[int] = []
    append = SpoolFile.append

    def counted(file: SpoolFile, lines: Iterable[bytes]) -> None:
        lines = list(lines)
        writes.append(len(lines))
        append(file, lines)

    monkeypatch.setattr(SpoolFile, "append", counted)
    server.respond_with(CALLS, ACKNOWLEDGED)
    shipper = ship()
    for name in ("first", "second"):
        shipper.add(a_call(id=name))
        until(lambda: written(tmp_path)[-1:] == [name])  # noqa: B023
    assert writes == [1, 1]
    assert server.requests == []
    close(shipper)
    assert received(server) == ["first", "second"]
    assert writes == [1, 1]


def test_two_files_take_turns(
    server: Server, signals: Signals, ship: Callable[..., Shipper], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that makes calls all the time does not make files all the time."""
    monkeypatch.setattr("llm_exporter.client.shipping._LINGER_SECONDS", 0)
    made: list[SpoolFile] = []
    lock = SpoolFile.lock

    def counted(file: SpoolFile) -> bool:
        made.append(file)
        return lock(file)

    monkeypatch.setattr(SpoolFile, "lock", counted)
    server.respond_with(CALLS, ACKNOWLEDGED)
    shipper = ship()
    for number in range(1, 101):
        shipper.add(a_call())
        signals.wait("llm_exporter_shipped_calls_total", number)
    assert 1 <= len(made) <= 2


def test_calls_that_are_too_many_for_memory_are_sent_from_disk(
    server: Server,
    signals: Signals,
    ship: Callable[..., Shipper],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("llm_exporter.client.outbox._MAX_REMEMBERED", 2)
    may_answer = threading.Event()
    server.respond_with(CALLS, Response(b"", answer=receipt, before={0: may_answer}), ACKNOWLEDGED)
    shipper = ship()
    shipper.add(a_call(id="0"))
    until(lambda: server.requests)
    for number in range(1, 6):
        shipper.add(a_call(id=str(number)))
    until(lambda: len(written(tmp_path)) == 6)
    assert shipper._outbox._filling.lines == []
    may_answer.set()
    signals.wait("llm_exporter_shipped_calls_total", 6)
    assert received(server) == list("012345")
    until(lambda: written(tmp_path) == [])


def test_calls_wait_on_disk_while_the_service_is_unavailable(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, AWAY, AWAY, ACKNOWLEDGED)
    call = a_call()
    shipper = ship()
    shipper.add(call)
    signals.wait("llm_exporter_shipped_calls_total", 1)
    close(shipper)
    assert received(server) == [call.id] * 3
    assert list(tmp_path.iterdir()) == []


LOGIN_PAGE = Response(b"<html>")
WRONG = Response(b"no such page", status=404)


def test_a_url_that_seems_wrong_is_not_called_unavailable(
    server: Server,
    signals: Signals,
    ship: Callable[..., Shipper],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.respond_with(CALLS, AWAY, AWAY, WRONG, LOGIN_PAGE, AWAY, ACKNOWLEDGED)
    ship().add(a_call())
    signals.wait("llm_exporter_shipped_calls_total", 1)
    unavailable = "llm-exporter: the service is unavailable; calls wait on disk: "
    wrong = "llm-exporter: LLM_EXPORTER_URL seems wrong; calls wait on disk: "
    answers = f"{server.url} does not answer like an llm-exporter service: HTTP "
    assert [record.getMessage() for record in caplog.records] == [
        f"{unavailable}{answers}503",
        f"{wrong}{answers}404",
        f"{unavailable}{answers}503",
    ]


def test_a_call_on_disk_counts_as_shipped_only_once_acknowledged(
    server: Server, signals: Signals, ship: Callable[..., Shipper]
) -> None:
    server.respond_with(CALLS, AWAY, AWAY, ACKNOWLEDGED)
    call = a_call()
    told: list[int] = []
    shipper = ship(shipped=lambda ids: told.extend(len(server.requests) for one in ids if one == call.id))
    shipper.add(call)
    signals.wait("llm_exporter_shipped_calls_total", 1)
    close(shipper)
    assert set(told) == {3}


def test_a_call_sent_from_disk_by_another_process_counts_as_shipped(
    server: Server, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, AWAY)
    call = a_call()
    told: list[str] = []
    shipper = ship(shipped=told.extend)
    shipper.add(call)
    until(lambda: shipper._unavailable)
    (file,) = tmp_path.iterdir()
    assert told == []
    file.unlink()  # as that process does when it has sent it
    until(lambda: told == [call.id])


def test_calls_wait_in_memory_while_service_and_disk_fail(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, AWAY, ACKNOWLEDGED)
    no_directory = tmp_path / "file"
    no_directory.write_text("")
    call = a_call()
    ship(no_directory / "spool").add(call)
    signals.wait("llm_exporter_shipped_calls_total", 1)
    assert received(server) == [call.id] * 2
    assert signals.total("llm_exporter_dropped_calls_total") == 0


def test_unsent_calls_are_left_on_disk_at_exit(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, AWAY, AWAY, ACKNOWLEDGED)
    call = a_call()
    shipper = ship()
    shipper.add(call)
    close(shipper)
    assert len(list(tmp_path.iterdir())) == 1
    ship()
    signals.wait("llm_exporter_shipped_calls_total", 1)
    assert set(received(server)) == {call.id}


def test_calls_lost_at_exit_are_counted_as_dropped(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, AWAY)
    no_directory = tmp_path / "file"
    no_directory.write_text("")
    shipper = ship(no_directory / "spool")
    shipper.add(a_call())
    close(shipper)
    assert signals.total("llm_exporter_dropped_calls_total") == 1


def test_rejected_calls_are_set_aside_and_do_not_block_others(
    server: Server,
    signals: Signals,
    ship: Callable[..., Shipper],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.respond_with(CALLS, REFUSED, ACKNOWLEDGED)
    shipper = ship()
    shipper.add(a_call(id="refused"))
    signals.wait("llm_exporter_dropped_calls_total", 1)
    shipper.add(a_call(id="taken"))
    signals.wait("llm_exporter_shipped_calls_total", 1)
    close(shipper)
    (file,) = tmp_path.iterdir()
    assert '"refused"' in file.read_text()
    assert str(file) in caplog.text


def test_a_rejected_call_is_found_and_set_aside_alone(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    """The service rejects every request that has call 3 or 8."""

    def answer(request: Request) -> bytes | Response:
        calls = msgspec.json.decode(gzip.decompress(request.body), type=list[Call])
        return REFUSED if {"3", "8"} & {call.id for call in calls} else receipt(request)

    server.respond_with(CALLS, Response(b"", answer=answer))
    shipper = ship()
    for number in range(10):
        shipper.add(a_call(id=str(number)))
    signals.wait("llm_exporter_shipped_calls_total", 8)
    signals.wait("llm_exporter_dropped_calls_total", 2)
    close(shipper)
    (file,) = tmp_path.iterdir()
    assert file.suffix == ".refused"
    assert [msgspec.json.decode(line)["id"] for line in file.read_bytes().splitlines()] == ["3", "8"]


def test_a_rejected_call_is_set_aside_once_although_its_file_is_sent_again(
    server: Server,
    signals: Signals,
    ship: Callable[..., Shipper],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service rejects the first call of a file, and is unavailable for the second."""
    monkeypatch.setattr("llm_exporter.client.shipping.BATCH_CALLS", 1)
    server.respond_with(CALLS, REFUSED, AWAY, REFUSED, AWAY, REFUSED, ACKNOWLEDGED)
    (tmp_path / "0.jsonl").write_bytes(
        b"".join(msgspec.json.encode(a_call(id=name)) + b"\n" for name in "ab")
    )
    ship()
    signals.wait("llm_exporter_shipped_calls_total", 1)
    assert received(server) == ["a", "b"] * 3
    until(lambda: [path.suffix for path in tmp_path.iterdir()] == [".refused"])
    assert signals.total("llm_exporter_dropped_calls_total") == 1


def test_files_that_cannot_be_read_are_counted_and_stop_nothing(
    server: Server, signals: Signals, ship: Callable[..., Shipper], tmp_path: Path
) -> None:
    server.respond_with(CALLS, ACKNOWLEDGED)
    (tmp_path / "0.jsonl").mkdir()
    (tmp_path / "1.jsonl").write_bytes(b"no call\n" + msgspec.json.encode(a_call(id="old")) + b"\n")
    ship().add(a_call(id="new"))
    signals.wait("llm_exporter_shipped_calls_total", 2)
    signals.wait("llm_exporter_dropped_calls_total", 2)
    assert sorted(received(server)) == ["new", "old"]


def test_calls_in_memory_are_bounded_and_the_oldest_are_dropped(
    server: Server,
    signals: Signals,
    ship: Callable[..., Shipper],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Two fit. The disk fails, and the service does not answer until all are added."""
    monkeypatch.setattr("llm_exporter.client.outbox._MAX_IN_MEMORY", 2)
    may_answer = threading.Event()
    server.respond_with(CALLS, Response(b"", answer=receipt, before={0: may_answer}))
    no_directory = tmp_path / "file"
    no_directory.write_text("")
    shipper = ship(no_directory / "spool")
    shipper.add(a_call(id="first"))
    until(lambda: bool(server.requests))
    for name in ("dropped", "second", "third"):
        shipper.add(a_call(id=name))
    signals.wait("llm_exporter_dropped_calls_total", 1)
    may_answer.set()
    signals.wait("llm_exporter_shipped_calls_total", 3)
    assert received(server) == ["first", "second", "third"]


def test_calls_in_memory_are_written_once_the_disk_is_back(
    server: Server, ship: Callable[..., Shipper], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.respond_with(CALLS, AWAY)
    state = tmp_path / "state"
    state.write_text("")
    shipper = ship(state / "spool")
    for name in ("first", "second"):
        shipper.add(a_call(id=name))
    until(lambda: shipper._unavailable)
    state.unlink()
    until(lambda: (state / "spool").is_dir() and set(written(state / "spool")) == {"first", "second"})
    assert caplog.text.count("cannot keep calls on disk") == 1


def test_a_call_that_cannot_be_encoded_harms_no_other(
    server: Server, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber of the application has put an object into it."""
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path))
    server.respond_with(CALLS, ACKNOWLEDGED)
    pipeline.ship_to(server.url)
    for name in ("first", "broken", "last"):
        pipeline.record(a_call(id=name, units={"things": object()} if name == "broken" else {}))
    pipeline.close()
    assert received(server) == ["first", "last"]
    assert Metered(pipeline).samples("llm_exporter_errors_total")[("shipping",)] == 1


def test_no_call_blocks_while_the_service_hangs_and_memory_is_full(
    server: Server, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service accepts a request and never answers, and the disk fails."""
    monkeypatch.setattr("llm_exporter.client.outbox._MAX_IN_MEMORY", 1)
    monkeypatch.setattr("llm_exporter.client.outbox._RETRY_SECONDS", 3600)
    (tmp_path / "spool").write_text("")
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path / "spool"))
    may_answer = threading.Event()
    server.respond_with(CALLS, Response(b"", answer=receipt, before={0: may_answer}))
    operations = [Operation(CHAT, "sync", stream=stream) for stream in (False, True)]
    server.respond_with(CHAT.paths[0], operations[0].response())
    server.stream_with(CHAT.paths[1], operations[1].response())
    senders = set()
    send = Connection.send

    def sending(connection: Connection, request: Sent, timeout: float) -> tuple[int, bytes]:
        senders.add(threading.current_thread().name)
        return send(connection, request, timeout)

    monkeypatch.setattr(Connection, "send", sending)
    pipeline.ship_to(server.url)
    pipeline.record(a_call())
    until(lambda: any(request.target == CALLS for request in server.requests))
    shipper = pipeline._shipper
    assert shipper is not None

    def make_calls() -> None:
        for operation in operations * 2:
            operation.run(llm_exporter.instrument(operation.client(server.url)))

    caller = threading.Thread(target=make_calls)
    with shipper._outbox._changed:
        caller.start()
        caller.join(30)
        assert not caller.is_alive()
        assert sum("/chat/" in request.target for request in server.requests) == 4
    assert pipeline.flush()
    assert len(shipper._outbox._arrived) == 1  # of four
    may_answer.set()
    pipeline.close()
    assert senders == {"llm-exporter-shipper", "llm-exporter-leases"}


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("127.0.0.1:9847", "must begin with http:// or https://, like http://127.0.0.1:9847"),
        ("ftp://127.0.0.1", "must begin with http:// or https://, like http://127.0.0.1:9847"),
        ("http://", "must have a host, like http://127.0.0.1:9847"),
        ("http://host:port", "must have a valid host and port, like http://127.0.0.1:9847"),
    ],
)
def test_an_invalid_url_raises_at_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, url: str, mistake: str
) -> None:
    monkeypatch.setenv("LLM_EXPORTER_URL", url)
    with pytest.raises(llm_exporter.ConfigError) as error:
        llm_exporter.instrument()
    assert str(error.value) == f"LLM_EXPORTER_URL: {mistake}"


PROGRAM = """
import llm_exporter, multiprocessing, os, sys

def call(agent):
    with llm_exporter.labels(agent=agent):
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})

def main():
    llm_exporter.instrument()
    call("parent")
    for method in ("fork", "spawn", "forkserver"):
        process = multiprocessing.get_context(method).Process(target=child, args=(method,))
        process.start()
        process.join()
    if os.fork() == 0:
        call("os.fork")
        sys.exit()
    os.wait()

def child(method):
    llm_exporter.instrument()
    call(method)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_a_process_ships_its_calls_once_however_it_ends(tmp_path: Path, *, away: bool) -> None:
    """A parent and each kind of child make one call each, also while the service is unavailable."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    served = Served(tmp_path)
    if not away:
        served.start()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        env=served.client_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if away:
        served.start()
    try:
        agents = {"parent", "fork", "spawn", "forkserver", "os.fork"}
        until(lambda: served.get("/api/v1/cost")["calls"] == len(agents))
        cost = served.get("/api/v1/cost")
        assert {row["agent"]: row["calls"] for row in cost["by_agent"]} == dict.fromkeys(agents, 1)
        assert cost["cost_usd"] == pytest.approx(5 * 0.0025)
    finally:
        served.stop()
