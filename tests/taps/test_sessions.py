"""Sessions and dreams of Anthropic's managed agents, whose responses report what they have used so far.

Prices are those of 2026-11: https://platform.claude.com/docs/en/about-claude/pricing.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import anthropic
import pytest

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from support.metered import Metered
from support.payloads import dump
from support.scripted import sse

try:
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

JSON = "application/json"
PROMPT = {"type": "user.message", "content": [{"type": "text", "text": "Go on."}]}


class Provider:
    """A client of Anthropic's own address, and the responses to its requests."""

    def __init__(self) -> None:
        self._responses: deque[Any] = deque()
        usual = anthropic.Anthropic(api_key="k")
        if not hasattr(usual.beta, "sessions") or not isinstance(usual._client, httpx.Client):
            pytest.skip("this release of anthropic has no sessions, or uses httpx")
        http = httpx.Client(transport=httpx.MockTransport(self._respond))
        self.client = llm_exporter.instrument(anthropic.Anthropic(api_key="k", http_client=http))

    def will_respond(self, *responses: Any) -> Any:
        """Prepare responses; return the client."""
        self._responses.extend(responses)
        return self.client.beta

    def _respond(self, _: Any) -> Any:
        response = self._responses.popleft()
        if isinstance(response, dict):
            return httpx.Response(200, content=dump(response), headers={"content-type": JSON})
        return httpx.Response(200, content=response, headers={"content-type": "text/event-stream"})


def session(tokens: int, cents: int | None, seconds: float = 0, **fields: Any) -> dict[str, Any]:
    """Return a session that has used this many input tokens so far."""
    agent = {"type": "agent", "model": {"id": "claude-opus-4-6"}}
    used = usage(tokens, cents, seconds)
    return {"type": "session", "id": "sesn_t", "status": "idle", "agent": agent, "usage": used, **fields}


def usage(tokens: int, cents: int | None, seconds: float = 0) -> dict[str, Any]:
    cost = {} if cents is None else {"list_cost": {"amount": str(cents), "currency": "USD"}}
    return {"input_tokens": tokens, "output_tokens": 0, "active_seconds": seconds, **cost}


def create(beta: Any) -> None:
    with llm_exporter.labels(agent="planner"):
        beta.sessions.create(agent="agent_t", environment_id="env_t")


def test_each_retrieval_counts_what_a_session_has_used_since(metered: Metered) -> None:
    provider = Provider()
    beta = provider.will_respond(session(0, 0), session(1000, 2), session(1000, 2), session(5000, 5))
    create(beta)
    for _ in range(3):
        beta.sessions.retrieve("sesn_t")
    calls = metered.calls
    assert [call.tokens for call in calls] == [{"input": 1000}, {"input": 4000}]
    assert [call.total_cost for call in calls] == pytest.approx([0.02, 0.03])
    assert {(call.operation, call.agent, call.model) for call in calls} == {
        ("invoke_agent", "planner", "claude-opus-4-6")
    }


def test_tokens_that_cost_less_than_a_cent_are_counted_with_the_next_cent(metered: Metered) -> None:
    provider = Provider()
    beta = provider.will_respond(session(0, 0), session(100, 0), session(3000, 2))
    create(beta)
    beta.sessions.retrieve("sesn_t")
    beta.sessions.retrieve("sesn_t")
    assert (metered.call.tokens, metered.call.total_cost) == ({"input": 3000}, 0.02)


def test_a_session_without_a_cost_is_priced_by_tokens_and_time(metered: Metered) -> None:
    provider = Provider()
    beta = provider.will_respond(session(0, None), session(1000, None, seconds=1800))
    create(beta)
    beta.sessions.retrieve("sesn_t")
    # $5 a million input tokens and $0.08 an hour
    assert metered.call.cost == {"input": pytest.approx(0.005), "tools": pytest.approx(0.04)}


def test_the_events_of_a_session_report_its_usage(metered: Metered) -> None:
    provider = Provider()
    events = [
        {"type": "agent.message", "id": "e1", "content": [{"type": "text", "text": "Done."}]},
        {"type": "session.usage", "id": "e2", "usage": usage(500, 1)},
        {"type": "session.usage", "id": "e3", "usage": usage(1000, 2)},
    ]
    beta = provider.will_respond(
        session(0, 0), {"data": []}, sse(*(dump(event).decode() for event in events)), session(1000, 2)
    )
    create(beta)
    beta.sessions.events.send("sesn_t", events=[PROMPT])
    with beta.sessions.events.stream("sesn_t") as stream:
        list(stream)
    beta.sessions.retrieve("sesn_t")
    call = metered.call
    assert (call.tokens, call.total_cost, call.agent) == ({"input": 1000}, 0.02, "planner")


def test_a_session_that_another_process_created_is_one_call_without_usage(metered: Metered) -> None:
    """The other process may count it."""
    provider = Provider()
    beta = provider.will_respond(session(7000, 9), session(8000, 12))
    beta.sessions.retrieve("sesn_t")
    beta.sessions.retrieve("sesn_t")
    call = metered.call
    assert (call.tokens, call.total_cost, call.usage_reported) == ({}, 0, False)


def test_a_session_that_is_never_retrieved_is_missing_usage(pipeline: Pipeline) -> None:
    metered = Metered(pipeline)
    provider = Provider()
    beta = provider.will_respond(session(0, 0), {"data": []})
    create(beta)
    beta.sessions.events.send("sesn_t", events=[PROMPT])
    assert metered.calls == []
    pipeline.close()
    assert [(call.operation, call.usage_reported) for call in metered._calls] == [("invoke_agent", False)]


def test_a_dream_is_counted_once_when_it_has_ended(metered: Metered) -> None:
    provider = Provider()
    model = {"id": "claude-opus-4-6", "speed": "standard"}

    def dream(status: str, tokens: int) -> dict[str, Any]:
        used = {"input_tokens": tokens, "output_tokens": 0, "cache_creation_input_tokens": 0}
        return {"type": "dream", "id": "drm_t", "status": status, "model": model, "usage": used}

    beta = provider.will_respond(dream("pending", 0), dream("running", 10), *[dream("completed", 1000)] * 2)
    with llm_exporter.labels(agent="planner"):
        beta.dreams.create(inputs=[], model="claude-opus-4-6")
    for _ in range(3):
        beta.dreams.retrieve("drm_t")
    call = metered.call
    assert (call.tokens, call.agent) == ({"input": 1000}, "planner")
    assert call.cost == {"input": pytest.approx(0.005)}
