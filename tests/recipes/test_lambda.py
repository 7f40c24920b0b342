"""A function on AWS Lambda, run by Amazon's runtime client, is frozen as soon as it has responded."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import SimpleQueue

import pytest

from support.awaiting import DEADLINE
from support.recipes import Recipe, assert_received
from support.scripted import Server
from support.served import Served

PREFIX = "/2018-06-01/runtime/invocation/"


class Runtime:
    """Lambda's runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html."""

    def __init__(self) -> None:
        self._events: SimpleQueue[str] = SimpleQueue()
        self._results: SimpleQueue[object] = SimpleQueue()
        self._numbers = iter(range(1, 100))
        self.pid = 0
        runtime = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert self.path == f"{PREFIX}next"
                body = json.dumps({"text": runtime._events.get()}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Lambda-Runtime-Aws-Request-Id", str(next(runtime._numbers)))
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 60_000))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:x:1:function:f")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                os.kill(runtime.pid, signal.SIGSTOP)
                runtime._results.put(
                    json.loads(body) if self.path.endswith("/response") else (self.path, body)
                )
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # the function ends while it waits for an event
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def invoke(self, text: str) -> object:
        """Thaw the function, and return what it returns. It is frozen by then."""
        os.kill(self.pid, signal.SIGCONT)
        self._events.put(text)
        return self._results.get(timeout=DEADLINE)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    runtime = Runtime()
    yield runtime
    runtime.close()


def test_aws_lambda(tmp_path: Path, provider: Server, service: Served, runtime: Runtime) -> None:
    """While the service is away, the calls wait for the next invocation."""
    recipe = Recipe("AWS Lambda, and other short functions", tmp_path, provider)
    recipe.ship_to(service)
    recipe.addresses["/tmp/llm-exporter"] = str(tmp_path / "tmp")
    recipe.write()
    recipe.environment |= {
        "AWS_LAMBDA_RUNTIME_API": runtime.address,
        "HOME": "/nonexistent",
        "LAMBDA_TASK_ROOT": str(tmp_path),
    }
    with recipe.running(f"{recipe.commands}\nexec python -m awslambdaric function.handler") as process:
        runtime.pid = process.pid
        for number in (1, 2):
            assert runtime.invoke("a") == "Seven."
            assert_received(service, {("resizer", "describe"): number})
        service.stop()
        assert runtime.invoke("b") == "Seven."
        service.start()
        assert_received(service, {("resizer", "describe"): 2})
        assert runtime.invoke("c") == "Seven."
        assert_received(service, {("resizer", "describe"): 4})
