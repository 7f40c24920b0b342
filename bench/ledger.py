"""Measure how long a service with a large SQLite ledger keeps others waiting during its longest tasks.

`LEDGER_CALLS` is the number of calls in millions, such as `1,10,50`; a million takes 0.7 GB. The calls
are spread evenly over a month. `LEDGER_DIRECTORY` keeps the ledgers for another run.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import msgspec

from llm_exporter.call import Call, new_id
from llm_exporter.periods import DAY
from llm_exporter.service.ledger.sqlite import SqliteLedger
from llm_exporter.service.ledger.sqlite_queries import ADD_UP, SPANS

from .compared import Row, Table, table
from .service import service

TARGET_SECONDS: Final = 0.25
REPORT_SECONDS: Final = 2.0
DAYS: Final = 30
TEAMS: Final = 20
FEWEST_ANSWERS: Final = 20
PATIENCE: Final = 3600.0

ONE: Final = Call(
    provider="openai",
    model="gpt-4o-2024-08-06",
    requested_model="gpt-4o",
    operation="chat",
    labels={"agent": "planner", "phase": "plan", "team": "team-0", "user": "user-0"},
    tokens={"input": 176, "cache_read": 1024, "output": 300},
    cost={"input": 0.001, "cache_read": 0.001, "output": 0.001},
    cost_source="list",
    duration=1.5,
)
BUDGET: Final = """
budgets:
  - {name: month, period: month, usd: 1000000, match: {team: team-1}}
"""
BUDGET_OF_EACH_USER: Final = "  - {name: each, period: day, usd: 1000000, per: [user]}\n"


def tables() -> Iterator[Table]:
    """Yield the only table."""
    yield table("Waits for a service with a large ledger", _rows())


def _rows() -> Iterator[Row]:
    """Measure ledgers of each size."""
    kept = os.environ.get("LEDGER_DIRECTORY")
    for millions in os.environ.get("LEDGER_CALLS", "1").split(","):
        with TemporaryDirectory() as directory:
            yield from _measured(float(millions), Path(kept or directory))


def _measured(millions: float, directory: Path) -> Iterator[Row]:
    name = f"{millions:g} million calls"
    store, config = directory / f"ledger-{millions:g}.db", directory / "llm-exporter.yml"
    if not store.exists():
        build(store, int(millions * 1e6))
    config.write_text("labels: [team]\nretention: 400d\n")
    since = time.time() - DAYS * DAY
    command = [
        "-m",
        "llm_exporter.cli",
        "serve",
        "--port",
        "0",
        "--store",
        str(store),
        "--config",
        str(config),
    ]
    with (
        service(*command, directory=directory) as url,
        httpx.Client(base_url=url, timeout=PATIENCE) as client,
    ):

        def get(path: str) -> Callable[[], object]:
            return lambda: client.get(path).raise_for_status()

        def reload(text: str) -> Callable[[], object]:
            def run() -> None:
                config.write_text(text)
                client.post("/-/reload").raise_for_status()

            return run

        def caught_up() -> None:
            while any(each["catching_up"] for each in client.get("/api/v1/budgets").json()["budgets"]):
                time.sleep(1)

        def shorten() -> None:
            reload(f"labels: [team]\nretention: {DAYS - 1}d\n{BUDGET}")()
            time.sleep(20)  # prunes 1/30 of the calls

        tasks: dict[str, tuple[Callable[[], object], float]] = {
            "nothing else": (lambda: time.sleep(5), 0),
            "the page": (get("/api/v1/cost"), REPORT_SECONDS),
            "a month by team": (get(f"/api/v1/cost?since={since}&by=team"), REPORT_SECONDS),
            "a month by day and team": (
                get(f"/api/v1/report?since={since}&period=day&by=team"),
                REPORT_SECONDS,
            ),
            "a month by user (100,000)": (get(f"/api/v1/cost?since={since}&by=user"), 0),
            "a reload with a new monthly budget": (reload(f"labels: [team]\nretention: 400d\n{BUDGET}"), 0),
            "a reload with a new budget of each user": (
                reload(f"labels: [team]\nretention: 400d\n{BUDGET}{BUDGET_OF_EACH_USER}"),
                0,
            ),
            "adding earlier calls to it": (caught_up, 0),
            "a shorter retention": (shorten, 0),
        }
        for task, (run, target) in tasks.items():
            waits, seconds = _during(url, run)
            load = os.getloadavg()[0]
            result = ", ".join(f"{who} {_percentiles(some)}" for who, some in waits.items())
            yield Row(
                f"{name}, during {task}: {seconds:,.2f} s{f' (target {target:g} s)' if target else ''}",
                f"load {load:.1f}",
                f"p50/p99/max ms: {result}",
                f"{TARGET_SECONDS * 1000:.0f} ms",
            )


def build(store: Path, calls: int) -> None:
    """Make a ledger of calls that end now, with 20 teams, 100,000 users and sessions of 20 calls."""
    SqliteLedger(store).close()
    writer = sqlite3.connect(store, isolation_level=None)
    # A power failure would destroy the file, which does not matter here.
    writer.execute("PRAGMA journal_mode = OFF")
    writer.execute("PRAGMA synchronous = OFF")
    writer.execute("BEGIN")
    for team in range(TEAMS):
        labels = msgspec.json.encode({"team": f"team-{team}", "user": None}).decode()
        writer.execute("INSERT INTO groups VALUES (?, ?, ?)", (team + 1, labels, 0))
    call = msgspec.json.encode(ONE).decode()
    every = DAYS * DAY / calls
    writer.execute(
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
        INSERT INTO calls
        SELECT i, printf('%032x', i), ?1 + i * ?2, ?1 + i * ?2, 'openai', 'model-' || (i % 5), 'chat',
            'agent-' || (i % 4), 'phase-' || (i % 3), 'default', 'default', 0, 0.003, 1200, 300, 0,
            replace(replace(?3, 'team-0', 'team-' || (i % ?4)), 'user-0', 'user-' || (i % 100000)),
            0, i % ?4 + 1
        FROM n
        """.replace("i < ?)", "i < ?5)"),
        (time.time() - DAYS * DAY, every, call, TEAMS, calls),
    )
    for span in SPANS:
        writer.execute(ADD_UP.format(span=span, condition="1"))
    writer.execute("COMMIT")
    writer.close()
    ledger = SqliteLedger(store)
    ledger.checkpoint([])
    ledger.close()
    with store.open("rb") as file:
        os.fsync(file)  # else the first transaction to be measured would wait for all of it


def _during(url: str, task: Callable[[], object]) -> tuple[dict[str, list[float]], float]:
    """Return how long others waited while a task ran, and how long the task took, in seconds."""
    lease = {"process": "bench", "accounts": []}

    def calls() -> bytes:
        return msgspec.json.encode([msgspec.structs.replace(ONE, id=new_id(), started=time.time())])

    requests: dict[str, Callable[[httpx.Client], Any]] = {
        "ingest": lambda client: client.post("/api/v1/calls", content=calls()),
        "lease": lambda client: client.post("/api/v1/budgets/leases", json=lease),
        "scrape": lambda client: client.get("/metrics"),
        "health": lambda client: client.get("/-/healthy"),
        "ready": lambda client: client.get("/-/ready"),
    }
    waits: defaultdict[str, list[float]] = defaultdict(list)
    ended = threading.Event()

    def ask(who: str) -> None:
        with httpx.Client(
            base_url=url, timeout=PATIENCE, headers={"content-type": "application/json"}
        ) as client:
            while not ended.is_set() or len(waits[who]) < FEWEST_ANSWERS:
                began = time.monotonic()
                requests[who](client).raise_for_status()
                waits[who].append(time.monotonic() - began)
                time.sleep(0.02)

    threads = [threading.Thread(target=ask, args=(who,)) for who in requests]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    began = time.monotonic()
    task()
    seconds = time.monotonic() - began
    ended.set()
    for thread in threads:
        thread.join()
    return dict(waits), seconds


def _percentiles(waits: list[float]) -> str:
    ordered = sorted(waits)
    chosen = (ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
    return "/".join(f"{wait * 1000:.0f}" for wait in chosen)
