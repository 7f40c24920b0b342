"""Fetching newer price tables, and the age of the current one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import genai_prices.data
import pytest
from genai_prices import data_snapshot

import llm_exporter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.config.model import Config, Prices
from support.awaiting import until
from support.metered import Metered
from support.scripted import Response, Server

TABLE = b"""[{"id": "openai", "name": "OpenAI", "api_pattern": "https://api.openai.com", "models": [
    {"id": "gpt-next", "match": {"equals": "gpt-next"}, "prices": {"input_mtok": 7}}
]}]"""
AGE = "llm_exporter_price_table_timestamp_seconds"


@pytest.fixture(autouse=True)
def _bundled_table_afterwards() -> Iterator[None]:
    yield
    data_snapshot.set_custom_snapshot(None)


def test_the_bundled_table_is_as_old_as_its_installation(metered: Metered) -> None:
    installed = Path(genai_prices.data.__file__ or "").stat().st_mtime
    assert metered.samples(AGE) == {(): pytest.approx(installed)}


def test_newer_prices_are_fetched_if_configured(server: Server, pipeline: Pipeline, metered: Metered) -> None:
    """1,000 tokens at $7 per million cost $0.007."""
    server.respond_with("/prices.json", Response(TABLE))
    before = time.time()
    pipeline.configure(Config(prices=Prices(update=True, update_url=f"{server.url}/prices.json")))
    until(lambda: data_snapshot.get_snapshot().from_auto_update)
    pipeline.configure(Config())
    llm_exporter.record(provider="openai", model="gpt-next", tokens={"input": 1000})
    assert metered.call.cost == {"input": 0.007}
    assert before <= metered.total(AGE) <= time.time()


def test_nothing_is_fetched_unless_configured(server: Server, pipeline: Pipeline) -> None:
    pipeline.configure(Config(prices=Prices(update_url=f"{server.url}/prices.json")))
    assert server.requests == []
