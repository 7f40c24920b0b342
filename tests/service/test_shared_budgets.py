"""Many processes spend one budget, shared by a service or by two services on one Redis, up to its limit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

import llm_exporter
from llm_exporter import BudgetExceeded
from llm_exporter.budgets import leases
from llm_exporter.budgets.leases import LeasedAccount
from llm_exporter.call import Call
from llm_exporter.client import default
from llm_exporter.client import lease_renewal as renewal
from llm_exporter.client.pipeline import Pipeline
from support.awaiting import until
from support.calls import a_call
from support.payloads import chat
from support.redis_server import RedisServer
from support.scripted import Server
from support.served import Served

SPENDERS = Path(__file__).parents[1] / "support" / "spenders.py"
CENT = {"prompt_tokens": 1600, "completion_tokens": 600, "total_tokens": 2200}

CONFIG = """\
budgets:
  - {name: all, period: total, usd: 1, on_exceed: block, on_unavailable: %s}
  - {name: planner, period: day, usd: 4, match: {agent: planner}}
"""


def configured(directory: Path, on_unavailable: str = "fail_open") -> Path:
    file = directory / "llm-exporter.yml"
    file.write_text(CONFIG % on_unavailable)
    return file


def spend(
    services: Sequence[Served], provider: Server, calls: int, until_sent: int = 0
) -> list[tuple[int, int, int]]:
    """Make calls in one process per service, and return the numbers (sent, refused, unavailable) of each.

    Refused calls are retried until so many have been sent in total.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, SPENDERS, provider.url, str(calls), "retry" if until_sent else "once"],
            env=service.client_environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for service in services
    ]
    outcomes = []
    try:
        until(lambda: len(provider.requests) >= until_sent, 300)
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
    for process in processes:
        with process:
            assert process.stdout is not None
            sent, refused, unavailable = map(int, process.stdout.read().split())
        assert process.returncode == 0
        outcomes.append((sent, refused, unavailable))
    return outcomes


def adds_up(service: Served, provider: Server, outcomes: Sequence[tuple[int, int, int]]) -> float:
    """Check that every call is accounted for, and return the amount spent."""
    sent = sum(one for one, _, _ in outcomes)
    assert len(provider.requests) == sent
    assert sum(map(sum, outcomes)) == 200
    (budget, _) = sorted(service.get("/api/v1/budgets")["budgets"], key=lambda each: str(each["budget"]))
    assert budget["budget"] == "all"
    assert budget["spent"] == pytest.approx(sent / 100, abs=1e-9)
    totals = service.get("/api/v1/cost?window=1h")
    assert totals["cost_usd"] == pytest.approx(sent / 100, abs=1e-9)
    assert totals["calls"] >= 200  # refused calls and their retries count too
    assert totals["calls"] - totals["errors"] == sent
    return float(budget["spent"])


def test_four_processes_stay_within_one_budget(
    tmp_path: Path, server: Server, figure: Callable[[str], None]
) -> None:
    server.respond_with("/chat/completions", chat(CENT))
    with Served(tmp_path, "--config", str(configured(tmp_path))) as service:
        outcomes = spend([service] * 4, server, 50)
        spent = adds_up(service, server, outcomes)
        metrics = service.get_text("/metrics")
    figure(f"sent, refused, unavailable: {outcomes}, spent ${spent:.2f}")
    refused = sum(one for _, one, _ in outcomes)
    assert f'llm_budget_rejected_calls_total{{budget="all"}} {float(refused)}' in metrics
    assert spent <= 1.0
    assert refused >= 100


def test_processes_that_retry_spend_the_budget_to_the_last_cent(
    tmp_path: Path, server: Server, figure: Callable[[str], None]
) -> None:
    server.respond_with("/chat/completions", chat(CENT))
    with Served(tmp_path, "--config", str(configured(tmp_path))) as service:
        outcomes = spend([service] * 4, server, 50, until_sent=97)
        spent = adds_up(service, server, outcomes)
    figure(f"sent, refused, unavailable: {outcomes}, spent ${spent:.2f}")
    assert 0.97 <= spent <= 1.0


def test_two_services_on_one_redis_share_a_budget(
    tmp_path: Path, server: Server, figure: Callable[[str], None]
) -> None:
    server.respond_with("/chat/completions", chat(CENT))
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    with RedisServer(tmp_path) as redis:
        options = ("--config", str(configured(tmp_path)), "--store", redis.url)
        with Served(one, *options) as first, Served(other, *options) as second:
            outcomes = spend([first, second] * 2, server, 50, until_sent=97)
            spent = adds_up(first, server, outcomes)
            assert second.get("/api/v1/budgets") == first.get("/api/v1/budgets")
    figure(f"sent, refused, unavailable: {outcomes}, spent ${spent:.2f}")
    assert 0.97 <= spent <= 1.0


def test_spending_survives_a_restart(tmp_path: Path, server: Server) -> None:
    server.respond_with("/chat/completions", chat(CENT))
    with Served(tmp_path, "--config", str(configured(tmp_path))) as service:
        ((sent, _, _),) = spend([service], server, 60, until_sent=60)
        assert sent == 60
        service.kill()
        service.start()
        ((more, _, _),) = spend([service], server, 60, until_sent=98)
        budgets = service.get("/api/v1/budgets")["budgets"]
    assert 38 <= more <= 40
    assert budgets[0]["spent"] == pytest.approx((60 + more) / 100, abs=1e-9)


def test_a_new_budget_includes_earlier_spending(tmp_path: Path) -> None:
    calls = [
        a_call(
            id=str(number), labels={"agent": "planner", "session": f"s-{number % 2}"}, cost={"output": 0.5}
        )
        for number in range(3)
    ]
    with Served(tmp_path) as service:
        httpx.post(f"{service.url}/api/v1/calls", json=msgspec.to_builtins(calls)).raise_for_status()
    file = tmp_path / "llm-exporter.yml"
    file.write_text(
        "budgets:\n"
        "  - {name: day, period: day, usd: 10, match: {agent: planner}}\n"
        "  - {name: each, period: total, usd: 2, per: [session]}\n"
        "thresholds:\n"
        "  - {name: low, window: month, usd: 1}\n"
    )
    with Served(tmp_path, "--config", str(file)) as service:
        before = _spent(service)
        assert before == {("day", "planner"): 1.5, ("each", "s-0"): 1.0, ("each", "s-1"): 0.5}
        httpx.post(f"{service.url}/api/v1/calls", json=msgspec.to_builtins(calls[:1])).raise_for_status()
        assert _spent(service) == before  # it was a duplicate
        service.kill()
        service.start()
        assert _spent(service) == before
        httpx.post(f"{service.url}/api/v1/sessions/s-0/reset").raise_for_status()
        assert _spent(service) == {("day", "planner"): 1.5, ("each", "s-1"): 0.5}
        metrics = service.get_text("/metrics")
    assert 'llm_budget_spent_usd{agent="planner",budget="day",period="day"} 1.5' in metrics
    assert 'llm_cost_threshold_spent_usd{threshold="low",window="month"} 1.5' in metrics


def _spent(service: Served) -> dict[tuple[str, ...], float]:
    budgets = service.get("/api/v1/budgets")["budgets"]
    return {(each["budget"], *each["labels"].values()): each["spent"] for each in budgets}


@pytest.mark.parametrize("on_unavailable", ["fail_open", "fail_closed"])
def test_calls_fail_open_or_closed_when_the_service_is_unavailable(
    on_unavailable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "LEASE_SECONDS", 1.5)
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path / "spool"))
    pipeline = Pipeline()
    with Served(tmp_path, "--config", str(configured(tmp_path, on_unavailable))) as service:
        pipeline.ship_to(service.url)
        until(lambda: pipeline.budgets.shared.budgets)
        assert [spending.rule.name for spending in pipeline.budgets.shared.budgets] == ["all"]
    (spending,) = pipeline.budgets.shared.budgets
    (account,) = spending.accounts()
    assert isinstance(account, LeasedAccount)
    until(lambda: account.lease_expired)
    call = Call(provider="openai", model="gpt-4o", requested_model="gpt-4o", operation="chat")
    if on_unavailable == "fail_open":
        pipeline.budgets.hold(call, {})
    else:
        with pytest.raises(
            BudgetExceeded, match="cannot be checked: the service that shares it is unavailable"
        ):
            pipeline.budgets.hold(call, {})
    families = {family.name: family for family in pipeline.registry.collect()}
    assert families["llm_exporter_budget_store_up"].samples[0].value == 0
    pipeline.close()


PER_SESSION = """\
budgets:
  - {name: each, period: day, per: [session], usd: 0.1, on_exceed: block, on_unavailable: %s}
"""


@pytest.mark.parametrize("on_unavailable", ["fail_open", "fail_closed"])
def test_no_process_makes_its_first_call_on_a_used_up_account(
    on_unavailable: str, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.respond_with("/chat/completions", chat(CENT))
    monkeypatch.setattr(leases, "ASK_SECONDS", 60.0)
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path / "spool"))
    file = tmp_path / "llm-exporter.yml"
    file.write_text(PER_SESSION % on_unavailable)
    spent = [
        a_call(id=str(number), labels={"session": "used-up"}, cost={"output": 0.01}) for number in range(10)
    ]
    with Served(tmp_path, "--config", str(file)) as service:
        httpx.post(f"{service.url}/api/v1/calls", json=msgspec.to_builtins(spent)).raise_for_status()
        for _ in range(3):
            pipeline = Pipeline()
            before = default.replace(pipeline)
            pipeline.ship_to(service.url)
            until(lambda shared=pipeline.budgets.shared: shared.budgets)  # type: ignore[misc]
            try:
                asyncio.run(_calls(server.url))
            finally:
                default.replace(before)
                pipeline.close()
    assert len(server.requests) == 3 * 2


async def _calls(url: str) -> None:
    """Make a call on a used-up account and one on a new account, each without and with an event loop."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.create_task(tick())
    arguments: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "four"}], "max_tokens": 600}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        llm_exporter.instrument(client)
        with llm_exporter.labels(session="used-up"), pytest.raises(BudgetExceeded, match=r"\$0.1000 spent"):
            await client.chat.completions.create(**arguments)
        assert ticks  # the loop ran while the call waited for the service
        with llm_exporter.labels(session="async"):
            await client.chat.completions.create(**arguments)
    ticking.cancel()
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client_in_thread:
        llm_exporter.instrument(client_in_thread)
        await asyncio.to_thread(_call_in_thread, client_in_thread, arguments)


def _call_in_thread(client: openai.OpenAI, arguments: Any) -> None:
    with llm_exporter.labels(session="used-up"), pytest.raises(BudgetExceeded):
        client.chat.completions.create(**arguments)
    with llm_exporter.labels(session="new"):
        client.chat.completions.create(**arguments)
