"""OpenAI's images, audio and videos.

Sources: https://platform.openai.com/docs/api-reference/images, .../audio, .../videos.
The responses of images and audio do not name the model.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

import msgspec
from typing_extensions import override

from ..call import Operation
from .fields import Json, amount, decoder, error_code, mapping, text
from .openai_responses import svg_sub_call
from .openai_usage import image_tokens_of, read_cost, tokens_of
from .reader import Reader


class _Media(msgspec.Struct):
    type: Any = None
    model: Any = None
    usage: Any = None
    svg_usage: Any = None
    duration: Any = None
    delta: Any = None
    error: Any = None


_decode: Final = decoder(_Media)


class _MediaReader(Reader):
    """Reads the usage of a response, or of the last event of a stream."""

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return b'"usage"' in data or b'"error"' in data

    @override
    def read_body(self, data: bytes) -> None:
        self._update(_decode(data))

    @override
    def read_event(self, data: bytes) -> None:
        event = _decode(data)
        self.note_generated(event.delta)
        self._update(event)

    def _update(self, part: _Media) -> None:
        self.reading.error = error_code(part.error) or self.reading.error
        if usage := mapping(part.usage):
            read_cost(usage, self.reading)
            self._read_usage(usage)

    def _read_usage(self, usage: Json) -> None:
        self.reading.tokens = tokens_of(usage)


class ImagesReader(_MediaReader):
    """Generated and edited images."""

    operation = "image_generation"

    def _update(self, part: _Media) -> None:
        super()._update(part)
        if svg := mapping(part.svg_usage):
            self.reading.sub_calls = [svg_sub_call(svg)]

    def _read_usage(self, usage: Json) -> None:
        self.reading.tokens = image_tokens_of(usage)


class TranscriptionReader(_MediaReader):
    """Transcriptions, billed by token or by the duration of the audio."""

    operation: ClassVar[Operation] = "transcription"

    def _update(self, part: _Media) -> None:
        super()._update(part)
        if self.reading.tokens is None:
            # A verbose response of whisper-1 has a duration but no usage.
            self._set_duration(_seconds(part.duration))

    def _read_usage(self, usage: Json) -> None:
        if usage.get("type") == "duration":
            self._set_duration(amount(usage.get("seconds")))
        else:
            super()._read_usage(usage)

    def _set_duration(self, seconds: float | None) -> None:
        if seconds is not None:
            self.reading.tokens = {}
            self.reading.units = {"input_audio_seconds": seconds}


def _seconds(duration: object) -> float | None:
    """Return a duration in seconds, which older responses write as a string."""
    if isinstance(duration, str):
        try:
            duration = float(duration)
        except ValueError:
            return None
        if not math.isfinite(duration):
            return None
    return amount(duration)


class TranslationReader(TranscriptionReader):
    """Translations into English."""

    operation = "translation"


class SpeechReader(_MediaReader):
    """Speech. An audio response has no usage; in a stream of events, the last one has."""

    operation = "speech"

    @override
    def read_request(self, request: Json) -> None:
        # These models are billed by input characters, which the response does not report.
        if text(request.get("model")).startswith(("tts-1", "canopylabs/orpheus")):
            self.reading.tokens = {}
            self.reading.units = {"input_characters": len(text(request.get("input")))}

    def _read_usage(self, usage: Json) -> None:
        tokens = tokens_of(usage)
        if spoken := tokens.pop("output", 0):
            tokens["output_audio"] = tokens.get("output_audio", 0) + spoken
        self.reading.tokens = tokens


class VideosReader(_MediaReader):
    """Videos, also Google's. They are generated later and billed per second; the response has no usage."""

    operation = "video_generation"

    def _update(self, part: _Media) -> None:
        super()._update(part)
        self.reading.model = text(part.model) or self.reading.model
