"""`llm-exporter serve` from its settings to its end."""

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
        config: what is configured.
        host: the address to listen on.
        port: the port, 0 for any free one.
        file: where the configuration is from.
        load: returns what is in it now.

    Raises:
        LedgerError: when the ledger cannot be used.
        OSError: when the address cannot be listened on.
    """
    family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    with socket.create_server((host, port), family=family, backlog=1024) as listening:
        taken = listening.getsockname()[1]
        spools = [spool_for(name, taken) for name in dict.fromkeys([host, *_LOOPBACK])]
        ledger = open_ledger(config.store, f"{socket.gethostname()}:{taken}")
        app = make_app(config, ledger, spools, file, load)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
        )
        print(f"llm-exporter serves http://{host}:{taken}", flush=True)  # noqa: T201
        server.run(sockets=[listening])
