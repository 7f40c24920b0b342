"""The program of test_canary.py: calls whose prompts and keys are secrets. Some of them fail."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any

import anthropic
import openai
from google import genai

import llm_exporter
from llm_exporter.client.default import pipeline

PROVIDER, SESSION = sys.argv[1:3]
CANARY = os.environ["CANARY"]
PROMPT: list[Any] = [{"role": "user", "content": f"My secret is {CANARY}-prompt"}]

logging.basicConfig(level=logging.DEBUG, filename=os.environ["LOG"])
logging.getLogger().handlers[0].addFilter(logging.Filter("llm_exporter"))  # the SDKs log prompts themselves
llm_exporter.instrument()

chat: dict[str, Any] = {"model": "gpt-4o", "messages": PROMPT, "user": f"{CANARY}-user"}
with (
    llm_exporter.labels(agent="visible", session=SESSION),
    openai.OpenAI(base_url=f"{PROVIDER}/v1", api_key=f"{CANARY}-openai", max_retries=0) as gpt,
    anthropic.Anthropic(base_url=PROVIDER, api_key=f"{CANARY}-anthropic", max_retries=0) as claude,
    genai.Client(api_key=f"{CANARY}-google", vertexai=False, http_options={"base_url": PROVIDER}) as gemini,
):
    gpt.chat.completions.create(**chat)
    list(gpt.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
    gpt.responses.create(model="o4-mini", input=f"{CANARY}-input", instructions=f"{CANARY}-instructions")
    claude.messages.create(
        model="claude-sonnet-4-6", max_tokens=99, messages=PROMPT, system=f"{CANARY}-system"
    )
    gemini.models.generate_content(model="gemini-2.5-pro", contents=f"{CANARY}-contents")
    with suppress(openai.AuthenticationError):
        gpt.embeddings.create(model="text-embedding-3-small", input=f"{CANARY}-embedded")
    with suppress(openai.APIStatusError):
        gpt.post(f"/{CANARY}-path", body={"text": f"{CANARY}-unread"}, cast_to=object)
pipeline().flush(60)
sys.stdout.writelines(part.decode() for part in pipeline().metrics.text(scrape=False, openmetrics=False))
