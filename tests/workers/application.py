"""The application that test_gunicorn.py serves: it calls an LLM and serves `/metrics`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import openai

import llm_exporter

llm_exporter.configure()
llm_exporter.instrument()
client = openai.OpenAI(base_url=os.environ["PROVIDER"] + "/v1", api_key="k", max_retries=0)
metrics = llm_exporter.make_wsgi_app()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve `/metrics`, or call the LLM as the agent in the path and return the id of the worker."""
    agent = environ["PATH_INFO"].strip("/")
    if agent == "metrics":
        body: Iterable[bytes] = metrics(environ, start_response)
        return body
    with llm_exporter.labels(agent=agent):
        client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "Hello"}],
            extra_headers={"X-Worker": str(os.getpid())},
        )
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
