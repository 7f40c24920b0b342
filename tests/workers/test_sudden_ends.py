"""Calls that are on disk survive the end of their process, and the service gets each of them once.

`tests/faults/test_process_ends.py` ends processes in other ways, at the moment that a call returns.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket

import pytest

from support.awaiting import until
from support.served import Served

PROGRAM = """
import multiprocessing, os, signal, sys, time
from pathlib import Path
import llm_exporter

made = 0

def on_disk():
    mark = b'"agent":"%d"' % os.getpid()
    spool = Path(os.environ["LLM_EXPORTER_SPOOL"])
    return sum(file.read_bytes().count(mark) for file in spool.rglob("*.jsonl"))

def call():
    global made
    with llm_exporter.labels(agent=str(os.getpid())):
        for _ in range(25):
            llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000})
    made += 25

def killed():
    for _ in range(2):
        if os.fork() == 0:
            call()
            while on_disk() < made:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        os.wait()

def process():
    for _ in range(2):
        child = multiprocessing.get_context("fork").Process(target=call)
        child.start()
        child.join()

llm_exporter.instrument()
{
    "exit": lambda: (call(), call()),
    "SIGKILL": killed,
    "Process": process,
}[sys.argv[1]]()
"""


def run(served: Served, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, end],
        env=served.client_environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def ids(directory: Path) -> list[bytes]:
    """The ids of the calls on disk, each as JSON."""
    lines = [line for file in directory.rglob("*.jsonl") for line in file.read_bytes().splitlines()]
    return sorted(line.partition(b'"id":')[2].partition(b",")[0] for line in lines)


def assert_nothing_is_lost(served: Served) -> None:
    on_disk = ids(served.directory / "spool")
    assert len(on_disk) == len(set(on_disk)) == 50
    served.start()
    try:
        until(lambda: served.get("/api/v1/cost")["calls"] == 50)
        until(lambda: ids(served.directory / "spool") == [])
        assert served.get("/api/v1/cost")["calls"] == 50
    finally:
        served.stop()


@pytest.mark.parametrize("end", ["SIGKILL", "Process"])
def test_a_process_that_ends_suddenly_loses_no_call_on_disk(tmp_path: Path, end: str) -> None:
    """The service is away meanwhile."""
    served = Served(tmp_path)
    run(served, end)
    assert_nothing_is_lost(served)


def hang(_: socket, released: threading.Event) -> None:
    released.wait()


def drip(connection: socket, released: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n")
    while not released.wait(0.2):
        connection.sendall(b"{")


def fail(connection: socket, _: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")


@contextmanager
def broken_service(port: int, serve: Callable[[socket, threading.Event], None]) -> Iterator[None]:
    """Serve each connection on a thread of its own until the end."""
    released = threading.Event()

    def work(connection: socket) -> None:
        with connection, suppress(OSError):
            serve(connection, released)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=work, args=(connection,)))
                threads[-1].start()

    with create_server(("127.0.0.1", port)) as listener:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield
        finally:
            released.set()
            listener.shutdown(SHUT_RDWR)
            for thread in threads:
                thread.join(60)


@pytest.mark.parametrize("serve", [hang, drip, fail])
def test_a_process_ends_while_the_service_is_broken_and_loses_nothing(
    tmp_path: Path, serve: Callable[[socket, threading.Event], None]
) -> None:
    """The service is broken until after the process has ended."""
    served = Served(tmp_path)
    with broken_service(served.port, serve):
        run(served, "exit")
    assert_nothing_is_lost(served)
