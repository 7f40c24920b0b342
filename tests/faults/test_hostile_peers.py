"""Peers that send half a request, a huge one, or one that grows when it is decompressed."""

from __future__ import annotations

import gzip
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from faults.agents import Agent, kept
from faults.conftest import Record
from llm_exporter.metrics.server import MAX_CONNECTIONS
from support.awaiting import until
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

CALLS = 50
POST = "POST /api/v1/calls HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
GIGABYTE = 2**30
MEGABYTE = 2**20


@pytest.fixture(autouse=True)
def _provider_responds(server: Server) -> None:
    server.respond_with("/chat/completions", CHAT.responses[False]())


@contextmanager
def held(port: int, number: int, data: bytes) -> Iterator[None]:
    """Open connections that send this and then nothing."""
    with ExitStack() as stack:
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with suppress(ConnectionError):  # the server may have closed it
                connection.sendall(data)
        yield


def answer(port: int, *pieces: bytes) -> bytes:
    """Send data, and return the status line of the response; empty if there is none."""
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return connection.recv(65536).partition(b"\r\n")[0]
    return b""


def test_scrapers(server: Server, tmp_path: Path, record: Record) -> None:
    half_open = 500
    with Served(tmp_path) as service:
        with Agent(service, server) as agent:
            port = agent.do("serve")
            agent.call(1)
            files = Path(f"/proc/{agent.process.pid}/fd")
            before = len(os.listdir(files))
            with held(port, half_open, b"GET /metrics HTTP/1.1\r\n"):
                agent.call(CALLS)
                assert len(os.listdir(files)) <= before + MAX_CONNECTIONS + 10  # some for the calls
                until(lambda: b"200" in answer(port, b"GET /metrics HTTP/1.0\r\n\r\n"))
        until(lambda: len(kept(service)) >= CALLS + 1)
        assert f"{MAX_CONNECTIONS} clients are connected to /metrics" in agent.log
        assert record(
            "clients send half a request to the `/metrics` of a process, and wait",
            f"{half_open} connections",
            agent.made,
            kept(service),
            seen="log of the process; scrapes get 503 for up to 10 s: `up` is 0",
        ) == (0, 0)


def test_slow_clients(server: Server, tmp_path: Path, record: Record) -> None:
    each = 300
    with Served(tmp_path) as service, Agent(service, server) as agent:
        head = POST.encode()
        body = f"{POST}content-length: 1000\r\n\r\n[".encode()
        with (
            held(service.port, each, head[:50]),
            held(service.port, each, head),
            held(service.port, each, body),
        ):
            agent.call(CALLS)
            until(lambda: len(kept(service)) >= CALLS)
        assert record(
            "clients send half a request to the service, and wait",
            f"{3 * each} connections, during {CALLS} calls",
            agent.made,
            kept(service),
            seen="log of the service at 1,000 connections",
        ) == (0, 0)


def test_huge_requests(server: Server, tmp_path: Path, record: Record) -> None:
    bomb = gzip.compress(bytes(256 * MEGABYTE))
    gzipped = f"{POST}content-encoding: gzip\r\ncontent-length: {len(bomb)}\r\n\r\n".encode()
    chunk = b"%x\r\n%b\r\n" % (MEGABYTE, b" " * MEGABYTE)
    with Served(tmp_path) as service, Agent(service, server) as agent:
        agent.begin("call", CALLS)
        for _ in range(5):
            assert b" 413 " in answer(service.port, gzipped, bomb)
            assert b" 413 " in answer(
                service.port, f"{POST}transfer-encoding: chunked\r\n\r\n".encode(), *[chunk] * 100
            )
            assert answer(service.port, b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: ", b"x" * MEGABYTE).split()[
                1:2
            ] in ([], [b"400"], [b"431"])
        agent.returned()
        until(lambda: len(kept(service)) >= CALLS)
        assert memory_of(service) < GIGABYTE
        assert record(
            "clients send huge requests to the service",
            "5 each of: 256 MB of zeros in gzip, 100 MB in chunks, a header of 1 MB",
            agent.made,
            kept(service),
            seen="they get 400, 413 or 431; the service needs less than 1 GB",
        ) == (0, 0)


def memory_of(service: Served) -> int:
    """Return the largest number of bytes that the service has needed."""
    status = Path(f"/proc/{service.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
