"""`start_http_server` can be called again, as a notebook does, and a scrape always gets an answer."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import llm_exporter
from llm_exporter.client import http
from llm_exporter.client.pipeline import Pipeline

pytestmark = pytest.mark.usefixtures("pipeline")


def test_started_again_it_is_the_running_server(pipeline: Pipeline, tmp_path: Path) -> None:
    server = llm_exporter.start_http_server(0)
    assert llm_exporter.start_http_server(0) is server
    other = llm_exporter.start_http_server(0, "127.0.0.2")
    assert other is not server
    server.close()
    again = llm_exporter.start_http_server(0)
    assert again is not server
    for each in (other, again):
        each.close()


def test_a_forked_process_starts_a_server_of_its_own() -> None:
    server = llm_exporter.start_http_server(0)
    child = os.fork()
    if not child:
        own = llm_exporter.start_http_server(0)
        os._exit(0 if own is not server and own.port != server.port else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    server.close()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = re.escape(f"cannot listen on port {port} of 127.0.0.1: Address already in use")
        with pytest.raises(OSError, match=message) as raised:
            llm_exporter.start_http_server(port)
    assert raised.value.errno == errno.EADDRINUSE


def test_a_scrape_is_answered_even_if_looking_for_other_workers_fails(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking reads what uvicorn and gunicorn may change."""

    def failing() -> bool:
        raise AttributeError("_kwargs")

    monkeypatch.setattr(http, "is_one_of_several", failing)
    http._say_once_if_workers_count_apart.cache_clear()
    client = TestClient(llm_exporter.make_asgi_app())
    assert client.get("/metrics").status_code == 200
    assert 'llm_exporter_errors_total{where="http"} 1.0' in client.get("/metrics").text
