"""Run the service: `llm-exporter serve`."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn

from ..client.spool import spool_for
from ..config.model import Config
from .app import make_app
from .ledger.store import open_ledger

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def serve(config: Config, host: str, port: int, file: Path | None, load: Callable[[], Config]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        config: The initial configuration.
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        file: The configuration file, which is reloaded when it changes.
        load: Returns the current configuration.

    Raises:
        LedgerError: The ledger is unavailable.
        OSError: The address is unavailable.
    """
    family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        bound = listener.getsockname()[1]
        spools = [spool_for(name, bound) for name in dict.fromkeys([host, *_LOOPBACK])]
        ledger = open_ledger(config.store, f"{socket.gethostname()}:{bound}")
        app = make_app(config, ledger, spools, file, load)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
        )
        print(f"llm-exporter listening on http://{host}:{bound}", flush=True)  # noqa: T201
        server.run(sockets=[listener])
