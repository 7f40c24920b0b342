"""A report ends when its client leaves."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from llm_exporter import Call
from llm_exporter.service.ledger.base import LedgerError, Query, abandoned
from llm_exporter.service.ledger.redis import RedisLedger
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.reading import Reading
from llm_exporter.service.requests import Problem
from support.awaiting import DEADLINE
from support.redis_server import RedisServer

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


def test_a_report_ends_when_its_client_leaves(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    running, ended = threading.Event(), threading.Event()

    def report() -> None:
        running.set()
        with pytest.raises(LedgerError, match="interrupted"):
            ledger._read(ENDLESS)
        ended.set()

    async def receive() -> dict[str, Any]:
        await asyncio.to_thread(running.wait, DEADLINE)
        return {"type": "http.disconnect"}

    async def scenario() -> None:
        reading = Reading(1)
        with pytest.raises(Problem, match="the client has left"):
            await reading.run(Request({"type": "http"}, receive), report)
        assert await asyncio.to_thread(ended.wait, DEADLINE)
        stays: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        assert await reading.run(Request({"type": "http"}, lambda: stays), ledger._read, "SELECT 1") == [(1,)]
        reading.close()

    asyncio.run(scenario())
    ledger.close()


def test_a_report_on_redis_ends_at_the_next_thousand_calls(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis:
        ledger = RedisLedger(redis.url, "a:1")
        one = {"provider": "openai", "model": "gpt-5", "operation": "chat", "started": 1.0}
        ledger.add([Call(**one) for _ in range(3000)])  # type: ignore[arg-type]
        for query in (Query(), Query(since=0.0, until=2.0), Query(session="default")):
            asked: list[None] = []
            token = abandoned.set(lambda asked=asked: asked.append(None) or len(asked) > 1)  # type: ignore[misc]
            with pytest.raises(LedgerError, match="nobody waits for the report"):
                ledger.totals(query, ["user"])
            abandoned.reset(token)
            assert len(asked) == 2
        ledger.close()
