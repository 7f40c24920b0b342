"""Ordinary responses, which are decoded into structs, are read exactly as the lenient decoders read them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_exporter.wire import anthropic, gemini, openai, openai_responses
from llm_exporter.wire.anthropic import MessagesReader
from llm_exporter.wire.gemini import GenerateContentReader
from llm_exporter.wire.openai import ChatReader
from llm_exporter.wire.openai_responses import ResponsesReader
from llm_exporter.wire.reader import Reader

number = st.integers(0, 30) | st.none()
text = st.sampled_from([None, "", "default", "ON_DEMAND_FLEX", "global", "\U0001f600"])


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects that have any of these fields."""
    return st.fixed_dictionaries({}, optional=fields)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def openai_usage(prompt: str, completion: str) -> st.SearchStrategy[Any]:
    into = some(cached_tokens=number, cache_write_tokens=number, text_tokens=number, audio_tokens=st.just(0))
    out = some(reasoning_tokens=number, accepted_prediction_tokens=number, audio_tokens=st.just(0))
    details = {f"{prompt}_details": maybe(into), f"{completion}_details": maybe(out)}
    return st.fixed_dictionaries(
        {prompt: number}, optional={completion: number, "total_tokens": number, **details}
    )


search = st.fixed_dictionaries({"type": st.just("web_search_call")})
details = maybe(
    st.lists(st.fixed_dictionaries({"modality": st.just("TEXT"), "tokenCount": number}), max_size=2)
)
anthropic_usage = st.fixed_dictionaries(
    {"input_tokens": number},
    optional={
        "output_tokens": number,
        "cache_creation_input_tokens": number,
        "cache_read_input_tokens": number,
        "cache_creation": maybe(some(ephemeral_5m_input_tokens=number, ephemeral_1h_input_tokens=number)),
        "output_tokens_details": maybe(some(thinking_tokens=number)),
        "server_tool_use": maybe(some(web_search_requests=st.just(0), web_fetch_requests=number)),
        "service_tier": text,
        "speed": text,
        "inference_geo": text,
    },
)
gemini_usage = st.fixed_dictionaries(
    {"promptTokenCount": st.integers(0, 30)},
    optional={
        **dict.fromkeys(("candidatesTokenCount", "totalTokenCount", "thoughtsTokenCount"), number),
        **dict.fromkeys(("cachedContentTokenCount", "toolUsePromptTokenCount"), number),
        **dict.fromkeys(("promptTokensDetails", "candidatesTokensDetails", "cacheTokensDetails"), details),
        **dict.fromkeys(("serviceTier", "trafficType"), text),
    },
)

FORMATS: dict[str, tuple[type[Reader], Any, st.SearchStrategy[Any]]] = {
    "chat": (
        ChatReader,
        openai,
        st.fixed_dictionaries(
            {"model": text, "choices": st.just([{"index": 0}])},
            optional={"usage": openai_usage("prompt_tokens", "completion_tokens"), "service_tier": text},
        ),
    ),
    "responses": (
        ResponsesReader,
        openai_responses,
        st.fixed_dictionaries(
            {"id": text, "model": text},
            optional={
                "usage": openai_usage("input_tokens", "output_tokens"),
                "output": st.lists(search, max_size=2),
                "status": text,
            },
        ),
    ),
    "messages": (
        MessagesReader,
        anthropic,
        st.fixed_dictionaries({"model": text}, optional={"usage": anthropic_usage, "error": st.none()}),
    ),
    "gemini": (
        GenerateContentReader,
        gemini,
        st.fixed_dictionaries({"modelVersion": text}, optional={"usageMetadata": gemini_usage}),
    ),
}

formats = pytest.mark.parametrize("name", FORMATS)
VALUE = re.compile(rb"(?<=:)(?:\d+|null)")
UNUSUAL = [
    *(b"-1", b"0.5", b"7.0", b"-0", b"-0.0", b"1e3", b"1e999", b"NaN", b"1000000000000", b"1000000000001"),
    *(
        b"1" + 30 * b"0",
        b'"7"',
        b"true",
        b"[]",
        b"{}",
        b'{"a":1}',
        b'"\\ud800"',
        b'"\xff"',
        b"",
        b"null",
        b"30",
    ),
]
NAMES = [
    *("usage", "usageMetadata", "model", "error", "cost", "cost_in_usd_ticks", "is_byok", "input_tokens"),
    *("prompt_tokens", "total_tokens", "cached_tokens", "audio_tokens", "image_tokens", "num_cached_tokens"),
    *("search_context_size", "promptTokenDetails", "modality", "iterations", "ttl", "x_groq", "tool_usage"),
    *("web_search_requests", "candidatesTokenCount", "unknown"),
]


@st.composite
def damaged(draw: st.DrawFn, bodies: st.SearchStrategy[Any]) -> bytes:
    """Return a body in which values are replaced, and objects have additional fields."""
    body = json.dumps(draw(bodies)).replace(": ", ":").encode()
    for _ in range(draw(st.integers(0, 2))):
        unusual = draw(st.sampled_from(UNUSUAL))
        if places := list(VALUE.finditer(body)):
            place = draw(st.sampled_from(places))
            body = body[: place.start()] + unusual + body[place.end() :]
    if draw(st.booleans()):
        at = draw(st.sampled_from([each.end() for each in re.finditer(rb"[{]", body)]))
        name, value = draw(st.sampled_from(NAMES)), draw(st.sampled_from(UNUSUAL))
        comma = b"" if body[at : at + 1] == b"}" else b","
        body = body[:at] + json.dumps(name).encode() + b":" + value + comma + body[at:]
    return body


@contextmanager
def lenient(module: Any) -> Iterator[None]:
    """Use only the lenient decoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_decode_ordinary", lambda _: None)
        yield


def read(reader: type[Reader], body: bytes) -> object:
    """Return what a reader makes of a body, or the type of its exception."""
    reading = reader()
    try:
        reading.read_body(body)
    except Exception as error:
        return type(error)
    return reading.reading


@formats
@settings(deadline=None, max_examples=400)
@given(data=st.data())
def test_any_body_is_read_as_the_lenient_decoder_reads_it(name: str, data: st.DataObject) -> None:
    reader, module, bodies = FORMATS[name]
    body = data.draw(damaged(bodies))
    with lenient(module):
        expected = read(reader, body)
    assert read(reader, body) == expected


@formats
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_an_ordinary_body_needs_no_lenient_decoder(name: str, data: st.DataObject) -> None:
    _, module, bodies = FORMATS[name]
    decode: Callable[[bytes], object] = module._decode_ordinary
    key = "usageMetadata" if name == "gemini" else "usage"
    body = data.draw(bodies.filter(lambda body: key in body))
    assert decode(json.dumps(body).encode()) is not None
