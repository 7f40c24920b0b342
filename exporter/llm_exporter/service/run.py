"""`llm-exporter serve` from its settings to its end."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

import uvicorn

from ..config import REDIS_SCHEMES, Config
from ..spool import spool_for
from .app import make_app
from .ledger import Ledger, LedgerError
from .sqlite import SqliteLedger

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def default_store() -> str:
    """Return the path of the ledger when none is configured: in this user's data directory."""
    data = os.environ.get("XDG_DATA_HOME")
    home = Path(data) if data else Path.home() / ".local" / "share"
    return str(home / "llm-exporter" / "ledger.db")


def open_ledger(store: str, instance: str = "", *, read_only: bool = False) -> Ledger:
    """Return the ledger in a store: `redis://…`, `sqlite:///…` or the path of an SQLite file.

    Args:
        store: where it is; in this user's data directory when it is empty.
        instance: what this service is called among those that share the store.
        read_only: for reports beside running services.

    Raises:
        LedgerError: when it cannot be used.
    """
    store = store or default_store()
    scheme, colon, rest = store.partition("://")
    if not colon:
        return SqliteLedger(Path(store), read_only=read_only)
    if scheme == "sqlite":
        return SqliteLedger(Path(rest), read_only=read_only)
    if scheme in REDIS_SCHEMES:
        try:
            from .redis import RedisLedger  # noqa: PLC0415  # needs the extra [redis]
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            raise LedgerError("store: redis is not installed: pip install 'llm-exporter[redis]'") from None
        return RedisLedger(store, instance, read_only=read_only)
    # No more of it than the scheme: there may be a password in it.
    raise LedgerError(f"store: {scheme}:// is neither redis://… nor the path of an SQLite file")


def serve(config: Config, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        LedgerError: when the ledger cannot be used.
        OSError: when the address cannot be listened on.
    """
    family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    with socket.create_server((host, port), family=family, backlog=1024) as listening:
        taken = listening.getsockname()[1]
        spools = [spool_for(name, taken) for name in dict.fromkeys([host, *_LOOPBACK])]
        app = make_app(config, open_ledger(config.store, f"{socket.gethostname()}:{taken}"), spools)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5, server_header=False)
        )
        print(f"llm-exporter serves http://{host}:{taken}", flush=True)  # noqa: T201
        server.run(sockets=[listening])
