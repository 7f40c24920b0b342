"""The readers of OpenAI's images and audio, and of calls that are free."""

from __future__ import annotations

import json

import pytest

from llm_exporter.wire.free import ModerationReader
from llm_exporter.wire.media import ImagesReader, SpeechReader
from llm_exporter.wire.reader import Reading


@pytest.mark.parametrize(
    ("model", "units"),
    [
        ("tts-1-hd", {"input_characters": 5}),
        ("canopylabs/orpheus-v1-english", {"input_characters": 5}),
        ("gpt-4o-mini-tts", {}),
    ],
)
def test_speech_is_billed_by_characters_for_some_models(model: str, units: dict[str, float]) -> None:
    """The response is audio, which has no usage."""
    reader = SpeechReader()
    reader.read_request({"model": model, "input": "Hello", "voice": "t"})

    assert reader.reading.units == units
    assert (reader.reading.tokens is None) == (not units)


def test_author_of_an_svg_image_is_a_sub_call() -> None:
    """Its tokens are not part of the image model's usage."""
    svg = {
        "model": "gpt-t",
        "input_tokens": 70,
        "output_tokens": 50,
        "reasoning_tokens": 0,
        "total_tokens": 120,
    }
    body = {"data": [], "usage": {"input_tokens": 9, "output_tokens": 1000}, "svg_usage": svg}
    reader = ImagesReader()
    reader.read_body(json.dumps(body).encode())

    assert reader.reading.tokens == {"input": 9, "output_image": 1000}
    assert reader.reading.sub_calls == [
        Reading(model="gpt-t", tokens={"input": 70, "output": 50}, operation="chat")
    ]


def test_moderation_has_the_model_of_the_response() -> None:
    """A request need not name one."""
    reader = ModerationReader()
    reader.read_body(b'{"id": "modr-t", "model": "omni-moderation-2030", "results": []}')

    assert (reader.reading.model, reader.reading.tokens) == ("omni-moderation-2030", None)
