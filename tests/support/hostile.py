"""Pass hostile responses through the meter, framing, reader, prices and metrics, as real ones do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import pytest

from llm_exporter.client import default
from llm_exporter.client.meter import Meter
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.retrieval import Outcome, Retrievals
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.wire.reader import Reader
from support.metered import Metered
from support.samples import AWS, BYTES, JSON, SSE

REQUEST = {"model": "tts-1", "input": "Seven.", "messages": [{"role": "user", "content": "How many?"}]}
PROVIDERS = ("openai", "anthropic", "google", "openrouter", "no-one")
CONTENT_TYPES = (JSON, SSE, AWS, BYTES, "", ";", "text/plain; charset=\xff", "audio/mpeg", "A" * 10_000)


def check(reader: type[Reader], responses: Iterable[Iterable[bytes]], *content_types: str) -> None:
    """Meter responses, alternating between streams and bodies and between providers."""
    pipeline = Pipeline()
    pipeline._retrievals = Retrievals(remembered=0)  # do not deduplicate equal responses
    expected: list[int] = []
    finished = pipeline.finished

    def note(conclude: Callable[[], Outcome], size: int = 0) -> None:
        outcome = conclude()
        expected.append(calls_in(outcome))
        finished(lambda: outcome, size)

    number = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(default, "_pipeline", pipeline)
        patch.setattr(pipeline, "finished", note)
        metered = Metered(pipeline)
        for number, pieces in enumerate(responses, 1):
            for content_type in content_types:
                provider = PROVIDERS[number % len(PROVIDERS)]
                meter = Meter(endpoint=Endpoint(provider), model="gpt-4o", reader=reader, request=REQUEST)
                meter.response_started({"content-type": content_type})
                if number % 2:
                    meter.will_stream()
                for piece in pieces:
                    meter.feed(piece)
                meter.finish()
                meter.returned()
        assert pipeline.flush(timeout=60)
        assert len(expected) == number * len(content_types)
        assert_sane(metered, sum(expected))
    pipeline.close()


def calls_in(outcome: Outcome) -> int:
    """Return how many calls an outcome should be counted as; a retrieval is not a call itself."""
    if outcome.is_running_total and outcome.retrieved:
        return int(bool(outcome.response_id and outcome.call.tokens))
    if outcome.is_running_total and outcome.response_id:
        return 1
    if not outcome.retrieved:
        return 1 + (0 if outcome.pending else len(outcome.sub_calls))
    if outcome.pending:
        return 0
    return len(outcome.sub_calls) or int(outcome.call.usage_reported)


def assert_sane(metered: Metered, calls: int) -> None:
    """Assert that every call is counted, and that every scraped number is plausible."""
    assert len(metered.calls) == calls
    for call in metered.calls:
        assert all(isinstance(number, int) and number > 0 for number in call.tokens.values())
        assert all(0 <= usd < math.inf for usd in call.cost.values())
    scraped = [sample for family in metered.pipeline.registry.collect() for sample in family.samples]
    assert all(0 <= sample.value < math.inf for sample in scraped)
    assert sum(sample.value for sample in scraped if sample.name == "llm_calls_total") == calls
    assert all(sample.value == 0 for sample in scraped if sample.name == "llm_calls_in_flight")
    # A reader may reject its input, but nothing after it may fail on the reading.
    errors = {sample.labels["where"] for sample in scraped if sample.name == "llm_exporter_errors_total"}
    assert errors <= {"wire"}
