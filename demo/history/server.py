"""How a month continues after its end: as a page for Prometheus to scrape."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import TracebackType
from typing import Self

from .month import Month
from .series import JOB


class MonthServer:
    """Serve the metrics of a month, continued to the present, inside the `with` block."""

    def __init__(self, month: Month) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                month.advance(max(month.now, time.time()))
                body = "".join(f"{_without_job(name)} {value}\n" for name, value in month.raw()).encode()
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


def _without_job(name: str) -> str:
    """Return a series without the job label, which Prometheus adds to what it scrapes."""
    return name.replace(f'job="{JOB}",', "")
