"""Open the ledger that the `store` setting names."""

from __future__ import annotations

from pathlib import Path

from ... import environment
from ...config.model import REDIS_SCHEMES, store_scheme
from .base import Ledger, LedgerError
from .sqlite import SqliteLedger


def default_store() -> str:
    """Return the path of the default ledger, in the user's data directory."""
    data = environment.DATA_HOME.value
    home = Path(data) if data else Path.home() / ".local" / "share"
    return str(home / "llm-exporter" / "ledger.db")


def open_ledger(store: str, instance: str = "", *, read_only: bool = False) -> Ledger:
    """Open a ledger.

    Args:
        store: `redis://…`, `sqlite:///…` or the path of an SQLite file; empty for the default ledger.
        instance: The name of this service among those that share the ledger.
        read_only: Whether only reports are needed. Services may be running on the ledger.

    Raises:
        LedgerError: The ledger is unavailable.
    """
    store = store or default_store()
    try:
        scheme = store_scheme(store)
    except ValueError as error:
        raise LedgerError(f"store: {error}") from None
    if scheme in REDIS_SCHEMES:
        try:
            from .redis import RedisLedger  # noqa: PLC0415  # needs the extra [redis]
        except ModuleNotFoundError as error:
            if error.name != "redis":
                raise
            raise LedgerError("store: redis is not installed: pip install 'llm-exporter[redis]'") from None
        return RedisLedger(store, instance, read_only=read_only)
    return open_sqlite(store, read_only=read_only)


def open_sqlite(store: str, *, read_only: bool = False, patience: float = 1.0) -> SqliteLedger:
    """Open a ledger in a file.

    Args:
        store: `sqlite:///…` or the path of a file.
        read_only: Whether only reports are needed.
        patience: How many seconds to wait for another process that is writing to it.

    Raises:
        LedgerInUse: Another process is writing to it.
        LedgerError: It cannot be used.
    """
    return SqliteLedger(Path(store.removeprefix("sqlite://")), read_only=read_only, patience=patience)
