"""Have Redis rewrite its append-only file after each of its starts, before anything is written.

A script is in that file as one transaction. If Redis is killed in the middle of writing it, the next start
removes the incomplete command but keeps the commands before it, so the file ends inside a transaction. The
next transaction closes it, and the start after that runs both: calls that were not acknowledged are then
stored a second time. Valkey describes the defect: https://github.com/valkey-io/valkey/pull/4342

The data in memory is right, so a rewrite removes the remains. It is done once for each start of a server, by
the first service that connects.

If Redis is killed again during the rewrite, its next start fails, because the file with the remains is no
longer the last one. That start repairs the file, too, and the one after it succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from ...log import log

_WAIT_SECONDS: Final = 2.0
"""How long a request waits for the rewrite."""
_POLL_SECONDS: Final = 0.01


class RewritingError(RedisError):
    """Redis has restarted, and has not yet rewritten its append-only file."""


class Restarts:
    """Sets up connections that write.

    Args:
        name: the server, for messages.
        key: where the run id of the server is stored whose file has been rewritten since it started.
    """

    def __init__(self, name: str, key: str) -> None:
        self._name = name
        self._key = key
        self._run_id = ""

    def connect(self, connection: Any) -> None:
        """Log in, and wait until the server has rewritten its file since it started.

        The first connection waits for as long as this takes, because the service cannot start without it.

        Raises:
            RewritingError: A later connection has waited for two seconds.
            RedisError: The server has responded with an error.
        """
        connection.on_connect()
        ask = partial(_ask, connection)
        run_id = _info(ask, "server").get("run_id", "")
        if run_id != self._run_id:
            stored = ask("GET", self._key)
            if stored != run_id.encode() and self._rewrite(ask):
                ask("SET", self._key, run_id)
            self._run_id = run_id

    def _rewrite(self, ask: Callable[..., Any]) -> bool:
        """Return whether the server has rewritten its file. If it cannot, say so and go on."""
        if _info(ask, "persistence").get("aof_enabled") != "1":
            return False
        try:
            ask("BGREWRITEAOF")
        except ResponseError as error:
            if "already in progress" not in str(error):
                return self._warn(str(error))
        deadline = time.monotonic() + _WAIT_SECONDS if self._run_id else None
        log.info("llm-exporter: %s: waiting for Redis to rewrite its append-only file", self._name)
        while (state := _info(ask, "persistence")) and "1" in (
            state.get("aof_rewrite_in_progress"),
            state.get("aof_rewrite_scheduled"),
        ):
            if deadline and time.monotonic() > deadline:
                raise RewritingError("Redis has restarted and is rewriting its append-only file")
            time.sleep(_POLL_SECONDS)
        return state.get("aof_last_bgrewrite_status") == "ok" or self._warn("see the log of Redis")

    def _warn(self, reason: str) -> bool:
        log.warning(
            "llm-exporter: %s: cannot rewrite the append-only file (BGREWRITEAOF: %s): if Redis was killed in"
            " the middle of a write, its next start may store calls twice",
            self._name,
            reason,
        )
        return False


def _ask(connection: Any, *command: str) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()


def _info(ask: Callable[..., Any], section: str) -> dict[str, str]:
    lines = ask("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
