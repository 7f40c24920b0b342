"""How a month continues after its end: as a page for Prometheus to scrape."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Final, Self

from llm_exporter.metrics.specs import METRICS

from .month import Month
from .series import INSTANCE, JOB, Samples

_SPECS: Final = {
    name: spec
    for spec in METRICS
    for name in (spec.name, *(f"{spec.name}_{part}" for part in ("bucket", "sum", "count")))
}
"""The metric of each name on the page."""
_ADDED: Final = f'job="{JOB}",instance="{INSTANCE}"'
"""The first labels of a series, which Prometheus adds to what it scrapes."""


class MonthServer:
    """Serve the metrics of a month, continued to the present, inside the `with` block."""

    def __init__(self, month: Month) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                month.advance(max(month.now, time.time()))
                body = page(month.raw()).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # named by the base class
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)  # not threaded: requests advance the month
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="sample-month")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def page(samples: Samples) -> str:
    """Return samples in the Prometheus text format, with the help and the type of each metric."""
    metrics: dict[str, list[str]] = {}
    for name, value in samples:
        spec = _SPECS[name.partition("{")[0]]
        header = f"# HELP {spec.name} {spec.help}\n# TYPE {spec.name} {spec.type}\n"
        metrics.setdefault(spec.name, [header]).append(f"{_as_exposed(name)} {value}\n")
    return "".join(itertools.chain.from_iterable(metrics.values()))


def _as_exposed(name: str) -> str:
    """Return a series without these labels. If they were on the page, Prometheus would keep them renamed."""
    return name.replace(f"{_ADDED},", "").replace(_ADDED, "")
