"""What ends after the first response is one call of the first request. Prices are those of 2026-11."""

from __future__ import annotations

from typing import Any

import openai
import pytest

import llm_exporter
from support import payloads
from support.metered import Metered
from support.operations import GOOGLE, require, vertex
from support.payloads import INTERACTION, STREAM, dump
from support.scripted import Response, Server


@pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")  # older services still use it
@pytest.mark.parametrize("status", ["queued", "completed"])
def test_a_video_is_one_call_of_its_first_request_without_usage(
    status: str, server: Server, metered: Metered
) -> None:
    video = {"id": "video_1", "object": "video", "model": "sora-2", "status": status, "seconds": "8"}
    server.respond_with("/videos", Response(dump(video)))
    server.respond_with("/video_1", Response(dump({**video, "status": "completed"})))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        require(client, "videos.create")(prompt="x", model="sora-2", seconds="8")
        for _ in range(2):
            client.videos.retrieve("video_1")
    call = metered.call
    assert (call.operation, call.model, call.usage_reported) == ("video_generation", "sora-2", False)
    assert metered.total("llm_usage_missing_total", operation="video_generation") == 1


def test_google_videos_are_one_call_of_their_first_request_without_usage(
    server: Server, metered: Metered
) -> None:
    name = "projects/p/locations/us-central1/publishers/google/models/veo-t/operations/o1"
    server.respond_with(":predictLongRunning", Response(dump({"name": name})))
    server.respond_with(
        ":fetchPredictOperation", Response(dump({"name": name, "done": True, "response": {}}))
    )
    with llm_exporter.instrument(vertex(server.url)) as client:
        operation = client.models.generate_videos(model="veo-t", source={"prompt": "x"})
        client.operations.get(operation)
    call = metered.call
    assert (call.operation, call.model, call.usage_reported) == ("video_generation", "veo-t", False)


def test_a_background_response_is_one_call_of_its_first_request(server: Server, metered: Metered) -> None:
    usage = {"input_tokens": 500, "output_tokens": 260, "total_tokens": 760}
    pending = {**payloads._response("queued", None, "o4-mini-2025-04-16"), "background": True}
    done = {**payloads._response("completed", usage, "o4-mini-2025-04-16"), "background": True}
    server.respond_with("/responses", Response(dump(pending)))
    server.respond_with("/resp_1", Response(dump(pending)), Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        with llm_exporter.labels(agent="planner"):
            client.responses.create(model="o4-mini", input="x", background=True)
        assert metered.calls == []
        assert metered.total("llm_calls_in_flight") == 0
        for status in ("queued", "completed", "completed"):
            assert client.responses.retrieve("resp_1").status == status
    call = metered.call
    assert (call.agent, call.requested_model) == ("planner", "o4-mini")
    assert (call.tokens, call.usage_reported) == ({"input": 500, "output": 260}, True)


def test_a_background_response_that_is_not_retrieved_is_counted_when_the_process_ends(
    server: Server, metered: Metered
) -> None:
    pending = {**payloads._response("queued", None, "o4-mini-2025-04-16"), "background": True}
    server.respond_with("/responses", Response(dump(pending)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.responses.create(model="o4-mini", input="x", background=True)
    assert metered.calls == []
    metered.pipeline.close()
    assert (metered.call.model, metered.call.usage_reported) == ("o4-mini-2025-04-16", False)
    metered.pipeline.close()
    assert metered.total("llm_usage_missing_total", operation="chat") == 1


RUN_USAGE = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}


def _run_of_an_assistant(status: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    head = {
        "id": "run_1",
        "object": "thread.run",
        "created_at": 1,
        "assistant_id": "asst_1",
        "thread_id": "thread_1",
    }
    return {
        **head,
        "status": status,
        "model": "gpt-4o-2024-08-06",
        "usage": usage,
        "instructions": "",
        "tools": [],
    }


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
def test_a_polled_run_of_an_assistant_is_one_call_of_its_first_request(
    server: Server, metered: Metered
) -> None:
    """gpt-4o: $2.50 and $10 a million tokens."""
    server.respond_with("/runs", Response(dump(_run_of_an_assistant("queued"))))
    server.respond_with(
        "/run_1",
        Response(dump(_run_of_an_assistant("in_progress"))),
        Response(dump(_run_of_an_assistant("completed", RUN_USAGE))),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        runs = require(client, "beta.threads.runs")
        with llm_exporter.labels(agent="planner"):
            runs.create("thread_1", assistant_id="asst_1")
        for status in ("in_progress", "completed", "completed"):
            assert runs.retrieve("run_1", thread_id="thread_1").status == status
    call = metered.call
    assert (call.agent, call.operation, call.model) == ("planner", "chat", "gpt-4o-2024-08-06")
    assert call.cost == {"input": 0.005, "output": 0.001}


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
def test_a_streamed_run_that_waits_for_a_tool_is_one_call(server: Server, metered: Metered) -> None:
    said = {
        "id": "msg_1",
        "object": "thread.message.delta",
        "delta": {"content": [{"index": 0, "type": "text", "text": {"value": "Seven."}}]},
    }

    def events(*data: dict[str, Any]) -> Response:
        lines = (f"event: {each['object']}\ndata: {dump(each).decode()}\n\n" for each in data)
        return Response("".join([*lines, "event: done\ndata: [DONE]\n\n"]).encode(), content_type=STREAM)

    server.respond_with(
        "/runs", events(_run_of_an_assistant("queued"), _run_of_an_assistant("requires_action"))
    )
    server.respond_with(
        "/submit_tool_outputs",
        events(_run_of_an_assistant("in_progress"), said, _run_of_an_assistant("completed", RUN_USAGE)),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        runs = require(client, "beta.threads.runs")
        assert list(runs.create("thread_1", assistant_id="asst_1", stream=True))
        assert metered.calls == []
        assert list(runs.submit_tool_outputs("run_1", thread_id="thread_1", tool_outputs=[], stream=True))
    assert metered.call.tokens == {"input": 2000, "output": 100}


def test_a_fine_tuning_job_is_counted_once_with_its_trained_tokens(server: Server, metered: Metered) -> None:
    job = {"id": "ftjob-1", "object": "fine_tuning.job", "model": "gpt-4.1-2025-04-14", "status": "running"}
    done = {**job, "status": "succeeded", "trained_tokens": 80_000}
    server.respond_with("/jobs", Response(dump(job)))
    server.respond_with("/ftjob-1", Response(dump(job)), Response(dump(done)))
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        client.fine_tuning.jobs.create(model="gpt-4.1-2025-04-14", training_file="file-1")
        for _ in range(3):
            client.fine_tuning.jobs.retrieve("ftjob-1")
    call = metered.call
    assert (call.operation, call.model) == ("fine_tuning", "gpt-4.1-2025-04-14")
    assert (call.units, call.usage_reported) == ({"trained_tokens": 80_000}, True)


def test_a_session_of_an_agent_is_counted_as_its_tokens_are_added(server: Server, metered: Metered) -> None:
    """gpt-5 at the flex tier: $0.625 and $5 a million tokens."""
    session = {
        "id": "sess_1",
        "object": "agent.session",
        "status": "in_progress",
        "agent": {"id": "agent_1", "model": "gpt-5-2025-08-07", "service_tier": "flex"},
        "usage": None,
    }
    usage = {"input_tokens": 2000, "output_tokens": 100, "total_tokens": 2100}
    more = {"input_tokens": 3000, "output_tokens": 100, "total_tokens": 3100}
    server.respond_with("/sessions", Response(dump(session)))
    server.respond_with(
        "/sess_1",
        *(Response(dump({**session, "status": "idle", "usage": each})) for each in (usage, usage, more)),
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        sessions = require(client, "beta.agents.sessions")
        with llm_exporter.labels(agent="planner"):
            sessions.create(environment={"id": "env_1"}, agent_id="agent_1", input="x")
        for _ in range(3):
            sessions.retrieve("sess_1")
    first, second = metered.calls
    assert (first.operation, first.model, first.agent) == ("invoke_agent", "gpt-5-2025-08-07", "planner")
    assert first.cost == {"input": 0.00125, "output": 0.0005}
    assert second.tokens == {"input": 1000}


def test_an_evaluation_is_counted_once_by_model(server: Server, metered: Metered) -> None:
    """gpt-4o: $2.50, $1.25 cached and $10 a million tokens."""
    run = {"id": "evalrun_1", "object": "eval.run", "eval_id": "eval_1", "status": "queued"}
    usage = {
        "model_name": "gpt-4o-2024-08-06",
        "invocation_count": 2,
        "prompt_tokens": 3000,
        "cached_tokens": 1000,
        "completion_tokens": 100,
        "total_tokens": 3100,
    }
    server.respond_with("/runs", Response(dump(run)))
    server.respond_with(
        "/evalrun_1", Response(dump({**run, "status": "completed", "per_model_usage": [usage]}))
    )
    with llm_exporter.instrument(openai.OpenAI(base_url=server.url, api_key="k")) as client:
        with llm_exporter.labels(agent="judge"):
            require(client, "evals.runs").create("eval_1", data_source={"type": "jsonl"})
        for _ in range(2):
            client.evals.runs.retrieve("evalrun_1", eval_id="eval_1")
    call = metered.call
    assert (call.agent, call.operation, call.model) == ("judge", "evaluation", "gpt-4o-2024-08-06")
    assert call.cost == {"input": 0.005, "cache_read": 0.00125, "output": 0.001}


def test_a_background_interaction_is_one_call_of_its_first_request(server: Server, metered: Metered) -> None:
    pending = {**INTERACTION, "model": None, "agent": "house-agent", "status": "in_progress", "usage": None}
    done = {**pending, "status": "completed", "usage": INTERACTION["usage"]}
    server.respond_with("/interactions", Response(dump(pending)))
    server.respond_with("/v1_a", Response(dump(pending)), Response(dump(done)))
    with llm_exporter.instrument(GOOGLE["sync"](server.url)) as client:
        with llm_exporter.labels(agent="planner"):
            require(client, "interactions.create")(agent="house-agent", input="x", background=True)
        assert metered.calls == []
        for status in ("in_progress", "completed", "completed"):
            assert client.interactions.get("v1_a").status == status
    call = metered.call
    assert (call.agent, call.model, call.requested_model) == ("planner", "house-agent", "house-agent")
    assert call.tokens == {"input": 320, "cache_read": 100, "output": 60, "reasoning": 40}
    assert call.unpriced_tokens == 520
