"""Calls are metered, shipped and limited under gevent and eventlet, whenever these patch the library."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_connection
from threading import Thread
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typing_extensions import override

from support.awaiting import until
from support.certificates import Certificates
from support.operations import CHAT
from support.scripted import Server
from support.served import Served

PROGRAM = Path(__file__).with_name("greenlets.py")
SCRAPED = Path(__file__).with_name("scraped.py")
BUDGETS = """
budgets: [{name: broke, match: {agent: broke}, usd: 0.0000001, period: month, on_exceed: block}]
"""


@pytest.mark.parametrize("order", ["before", "after", "late"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_calls_in_greenlets_are_metered_shipped_and_limited(
    library: str, order: str, server: Server, tmp_path: Path
) -> None:
    """The library patches before our import, after it, or after the first call."""
    server.respond_with("/chat/completions", CHAT.responses[False]())
    config = tmp_path / "llm-exporter.yml"
    config.write_text(BUDGETS)
    with Served(tmp_path, "--config", str(config)) as service:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", str(PROGRAM), library, order],
            env={**service.client_environment, "PROVIDER": server.url},
            check=False,
            capture_output=True,
            text=True,
            timeout=600,  # a hang, not a busy machine
        )
        assert done.returncode == 0, done.stderr
        assert "llm-exporter failed" not in done.stderr
        result = json.loads(done.stdout.splitlines()[-1])
        calls = 9 if order == "late" else 10
        assert result == {
            "outcomes": ["made"] * calls,
            "flushed": True,
            "refused": "refused",
            "seen": 11,
            "errors": [],
        }
        stored = until(lambda: service.get("/api/v1/calls")["calls"])
        assert Counter(call["labels"]["agent"] for call in stored) == {"planner": 10, "broke": 1}


PATCH = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
HUB = {
    "gevent": "from gevent._hub_local import get_hub_if_exists as hub",
    "eventlet": "from eventlet.hubs import _threadlocal; hub = lambda: getattr(_threadlocal, 'hub', None)",
}
SENDER = """
import sys
from llm_exporter.client.connection import Connection, Request
from llm_exporter.client.service_url import check_url
from llm_exporter.threads import SimpleQueue, Thread

def work():
    statuses = []
    for connection in early, Connection(url):
        statuses.append(connection.send(Request("GET", "/", None, {}), 60)[0])
        connection.close()
    results.put((statuses, hub()))

def failed(error):
    results.put(error)

def run():
    Thread(work, "sender", failed).start()
    print(results.get())

url = check_url(sys.argv[1])
early = Connection(url)
results = SimpleQueue()
hub = lambda: None
"""


class _Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    @override
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("order", ["before", "after", "late"])
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_threads_of_ours_start_no_event_loop(library: str, scheme: str, order: str, tmp_path: Path) -> None:
    """Two threads that start gevent's at the same time can wait for each other's import locks for ever."""
    certificates = Certificates(tmp_path)
    patch, hub = PATCH[library], HUB[library]
    steps = {
        "before": [patch, SENDER, hub, "run()"],
        "after": [SENDER, patch, hub, "run()"],
        "late": [SENDER, "run()", patch, hub, "run()"],
    }[order]
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answering) as server:
        if scheme == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificates.issue("localhost"))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            done = subprocess.run(
                [
                    *(sys.executable, "-W", "ignore", "-c"),
                    "\n".join(steps),
                    f"{scheme}://localhost:{server.server_port}",
                ],
                env={**os.environ, "SSL_CERT_FILE": str(certificates.ca)},
                check=False,
                capture_output=True,
                text=True,
            )
        finally:
            server.shutdown()
            thread.join()
    assert (done.stdout, done.stderr) == ("([200, 200], None)\n" * steps.count("run()"), "")


WEB = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n"


@pytest.mark.parametrize("order", ["before", "after", "late"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_metrics_are_served_whatever_greenlets_do(library: str, order: str, tmp_path: Path) -> None:
    """The library patches before our import, after it, or after the servers have started.

    Scrapes neither need the program's event loop, which is blocked meanwhile, nor hold it up.
    """
    certificates = Certificates(tmp_path)
    certificates.issue("127.0.0.1")
    (tmp_path / "web.yml").write_text(WEB)
    client = certificates.client_context()

    def calls(url: str) -> float:
        with urlopen(
            url,
            timeout=60,
            context=client if url.startswith("https") else None,
        ) as response:
            families = list(text_string_to_metric_families(response.read().decode()))
        return sum(s.value for family in families for s in family.samples if s.name == "llm_calls_total")

    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(SCRAPED), library, order, str(tmp_path / "web.yml")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with program, ThreadPoolExecutor() as pool, ExitStack() as stack:
        stack.callback(program.kill)
        assert program.stdin is not None
        assert program.stdout is not None
        ports = program.stdout.readline().split()
        urls = [f"http://127.0.0.1:{ports[0]}/metrics", f"https://127.0.0.1:{ports[1]}/metrics"]
        assert list(pool.map(calls, urls * 5)) == [1] * 10
        for port in ports:  # a client that sends nothing
            stack.enter_context(create_connection(("127.0.0.1", int(port))))
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "worked\n"
        assert list(pool.map(calls, urls)) == [10, 10]
        output, log = program.communicate("\n")
        assert output == "12 12\n"  # scrapes, and those that started no event loop
        assert "llm-exporter: " not in log  # eventlet logs that it is late
    assert program.returncode == 0
