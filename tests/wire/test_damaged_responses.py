"""Responses that are cut off, or whose headers are wrong: the call is counted once."""

from __future__ import annotations

import pytest

from llm_exporter.client.meter import Meter
from llm_exporter.pricing.endpoint import Endpoint
from llm_exporter.wire.openai import ChatReader
from support.hostile import CONTENT_TYPES, check
from support.metered import Metered
from support.samples import JSON, SAMPLES, Sample

samples = pytest.mark.parametrize("sample", SAMPLES, ids=str)


@samples
def test_truncated_response_is_counted_once(sample: Sample) -> None:
    """The connection may break after any byte."""
    responses = ([sample.data[:end]] if end else [] for end in range(len(sample.data) + 1))

    check(sample.reader, responses, sample.content_type)


@samples
def test_response_with_a_wrong_content_type_is_counted_once(sample: Sample) -> None:
    check(sample.reader, [[sample.data]], *CONTENT_TYPES)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"content-type": "\x00\xff\ud800"}, id="an invalid content type"),
        pytest.param({"content-type": JSON, "X-RATELIMIT-LIMIT-TOKENS": "9" * 400}, id="400 digits"),
        pytest.param({"content-type": JSON, "x-ratelimit-limit-tokens": "-5"}, id="negative"),
        pytest.param({"content-type": JSON, "x-ratelimit-remaining-tokens": "NaN"}, id="NaN"),
        pytest.param({"content-type": JSON, "x-ratelimit-remaining-tokens": "Infinity"}, id="infinite"),
        pytest.param(
            {"content-type": JSON, "x-ratelimit-remaining-tokens": "1_0"}, id="Python's digit separator"
        ),
        pytest.param(
            {"content-type": JSON, "x-ratelimit-remaining-to\nkens": "5"}, id="a line end in a name"
        ),
        pytest.param({"content-type": JSON, 'x-ratelimit-limit-a"b': "5"}, id="a quote in a name"),
    ],
)
def test_hostile_headers_set_no_rate_limit(headers: dict[str, str], metered: Metered) -> None:
    """The response is read anyway."""
    meter = Meter(endpoint=Endpoint("openai"), model="gpt-4o", reader=ChatReader)
    meter.response_started(headers)
    meter.feed(b'{"usage": {"prompt_tokens": 31}}')
    meter.finish()

    assert metered.call.usage_reported == (headers.get("content-type", JSON) == JSON)
    assert metered.samples("llm_rate_limit_limit") == metered.samples("llm_rate_limit_remaining") == {}
