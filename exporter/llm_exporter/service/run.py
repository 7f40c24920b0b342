"""Run the service: `llm-exporter serve`."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from typing_extensions import override

from ..client.spool import ledger_spool, spool_for
from ..config.model import Config
from ..errors import ConfigError
from ..host_names import is_loopback
from ..log import HarmlessTracebacks
from ..web_config import WebConfig
from .app import make_app
from .connections import KEEP_ALIVE_SECONDS, MAX_CONNECTIONS, Listener, Loop, Protocol
from .ledger.store import open_ledger
from .live import Live

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_BACKLOG: Final = 128
_OTHER_FILES: Final = 256
"""File descriptors beside connections: the ledger, spools, requests to Redis."""
_FULL_COLLECTION: Final = 1000
"""How many collections of middle-aged objects precede a full one: seven million allocations."""
_GRACE_SECONDS: Final = 5
"""How long requests may go on after a signal."""
_SWITCH_SECONDS: Final = 0.0005
"""How long a thread may run Python while others wait, such as the event loop during a report."""


def serve(
    config: Config,
    host: str,
    port: int,
    file: Path | None,
    load: Callable[[], Config],
    *,
    web: WebConfig | None = None,
    external_url: str = "",
    insecure: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        config: The initial configuration.
        host: The address to listen on.
        port: The port to listen on; 0 for any free port.
        file: The configuration file, which is reloaded when it changes.
        load: Returns the current configuration.
        web: TLS, users with passwords, and headers.
        external_url: The URL that users reach the service at, if it is not that of the address.
        insecure: Whether to listen beyond loopback without authentication.

    Raises:
        ConfigError: The address is not of loopback, and there is no authentication.
        LedgerError: The ledger is unavailable.
        OSError: The address is unavailable.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    authenticates = bool(config.auth.tokens) or (web is not None and web.authenticates)
    if not (insecure or authenticates or is_loopback(str(found[0][4][0]))):
        raise ConfigError(
            f"refusing to listen on {host or 'all addresses'} without authentication: set auth.tokens in"
            " the configuration, or users or client certificates with --web.config.file;"
            " --insecure-no-auth lets anyone read and forge spending"
        )
    context = None if web is None else web.ssl_context()
    with socket.create_server((host, port), family=found[0][0], backlog=_BACKLOG) as listening:
        bound = listening.getsockname()[1]
        spools = [spool_for(name, bound) for name in dict.fromkeys([host, *_LOOPBACK])]
        if not config.store:
            spools.append(ledger_spool())
        ledger = open_ledger(config.store, f"{socket.gethostname()}:{bound}")
        app = make_app(
            config, ledger, spools, file, load, web=web, external_url=external_url, listens_on=host
        )
        settings = uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            log_level="error",  # a client's mistake is not one of the service
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(HarmlessTracebacks())
        settings.load()
        settings.ssl = context
        server = _Server(settings, app.state.live)
        collect_rarely()
        sys.setswitchinterval(_SWITCH_SECONDS)
        shown = f"[{host}]" if ":" in host else host
        scheme = "http" if context is None else "https"
        print(f"llm-exporter listening on {scheme}://{shown}:{bound}", flush=True)  # noqa: T201
        with (
            Listener(listening, _connection_limit(), respond=context is None) as listener,
            asyncio.Runner(loop_factory=Loop) as runner,
        ):
            runner.run(server.serve(sockets=[listener]))


def collect_rarely() -> None:
    """Have full garbage collections run rarely, and not look at what stays anyway.

    Each of them keeps the event loop waiting. They would find next to nothing: what large batches and reports
    allocate has no cycles, and what has some is freed by the collections of young objects.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _FULL_COLLECTION)


class _Server(uvicorn.Server):
    """A server that ends the event streams when it stops, instead of waiting for their clients to leave."""

    def __init__(self, settings: uvicorn.Config, live: Live) -> None:
        super().__init__(settings)
        self._live = live

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._live.close()
        await super().shutdown(sockets)


def _connection_limit() -> int:
    """Return how many connections there may be, after raising the limit on open files if necessary."""
    try:
        import resource  # noqa: PLC0415  # Unix only
    except ImportError:
        return MAX_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MAX_CONNECTIONS
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _OTHER_FILES, allowed // 2)
