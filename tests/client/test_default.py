"""The default pipeline is made once, and nobody waits for the service while it is."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import llm_exporter
from llm_exporter import threads
from llm_exporter.client import default
from llm_exporter.client.pipeline import Pipeline
from support.awaiting import DEADLINE, until
from support.scripted import Response, Server


@pytest.mark.parametrize("exists", [False, True], ids=["made later", "exists"])
@pytest.mark.usefixtures("pipeline")
def test_no_caller_waits_for_the_service(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, exists: bool
) -> None:
    """The service accepts the first request and does not answer before all of this is over."""
    may_answer = threading.Event()
    server.respond_with("/leases", Response([b"{}"], before={0: may_answer}))
    monkeypatch.setenv("LLM_EXPORTER_URL", server.url)
    monkeypatch.setenv("LLM_EXPORTER_SPOOL", str(tmp_path))
    monkeypatch.setattr(default, "_service", "")
    waited: list[str] = []
    here = threading.current_thread()

    def watched(wait: object) -> object:
        def record(*args: object) -> object:
            if threading.current_thread() is here:
                waited.append(str(wait))
            return wait(*args)  # type: ignore[operator]

        return record

    if not exists:
        default.replace(None)
    with monkeypatch.context() as patch:
        patch.setattr(threads.Event, "wait", watched(threads.Event.wait))
        patch.setattr(time, "sleep", watched(time.sleep))
        llm_exporter.instrument()
        pipeline = default.pipeline()
        llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 10})
    assert waited == []
    until(lambda: [request for request in server.requests if request.target.endswith("/leases")])
    may_answer.set()
    pipeline.close()


def test_threads_share_one_pipeline(pipeline: Pipeline) -> None:
    made: list[Pipeline] = []
    default.replace(None)
    makers = [threading.Thread(target=lambda: made.append(default.pipeline())) for _ in range(8)]
    for thread in makers:
        thread.start()
    for thread in makers:
        thread.join(DEADLINE)
    assert len(made) == 8
    assert {id(one) for one in made} == {id(default.pipeline())} != {id(pipeline)}
    default.pipeline().close()


def test_a_pipeline_does_without_the_client_library_of_prometheus() -> None:
    """Its registry and its types for collectors load it, which takes as long as a fifth of our own code."""
    program = """
import sys
from llm_exporter.client.default import pipeline
pipeline()
assert not any(name.startswith("prometheus_client") for name in sys.modules)
pipeline().registry
assert "prometheus_client" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
