"""Which ledger a store is."""

from __future__ import annotations

import os
from pathlib import Path

from ...config.model import REDIS_SCHEMES
from .base import Ledger, LedgerError
from .sqlite import SqliteLedger


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
