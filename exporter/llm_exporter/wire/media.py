"""OpenAI's images, audio and videos.

https://platform.openai.com/docs/api-reference/images, .../audio, .../videos. The answers of images and
audio do not say which model made them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

import msgspec

from .fields import Json, amount, decoder, error_code, mapping, text
from .openai import image_tokens_of, reported_cost, tokens_of
from .reader import Reader


class _Media(msgspec.Struct):
    type: Any = None
    model: Any = None
    usage: Any = None
    duration: Any = None
    delta: Any = None
    error: Any = None


_decode: Final = decoder(_Media)


class _MediaReader(Reader):
    """Reads the usage of a whole answer, or of the event that closes a stream."""

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`."""
        return b'"usage"' in data or b'"error"' in data

    def read_body(self, data: bytes) -> None:
        """Read an answer."""
        self._take(_decode(data))

    def read_event(self, data: bytes) -> None:
        """Read one event."""
        event = _decode(data)
        self.note_generated(event.delta)
        self._take(event)

    def _take(self, part: _Media) -> None:
        self.reading.error = error_code(part.error) or self.reading.error
        if usage := mapping(part.usage):
            self.reading.reported_cost = reported_cost(usage)
            self._use(usage)

    def _use(self, usage: Json) -> None:
        self.reading.tokens = tokens_of(usage)


class ImagesReader(_MediaReader):
    """Generated and edited images."""

    operation: ClassVar[str] = "image_generation"

    def _use(self, usage: Json) -> None:
        self.reading.tokens = image_tokens_of(usage)


class TranscriptionReader(_MediaReader):
    """Transcriptions, billed by token or by the length of the audio."""

    operation: ClassVar[str] = "transcription"

    def _take(self, part: _Media) -> None:
        super()._take(part)
        if self.reading.tokens is None:
            # whisper-1's verbose answers have the length, and no usage.
            self._last(_seconds(part.duration))

    def _use(self, usage: Json) -> None:
        if usage.get("type") == "duration":
            self._last(amount(usage.get("seconds")))
        else:
            super()._use(usage)

    def _last(self, seconds: float | None) -> None:
        if seconds is not None:
            self.reading.tokens = {}
            self.reading.units = {"input_audio_seconds": seconds}


def _seconds(duration: object) -> float | None:
    """Return a length of audio, which is a number or, in older answers, one in a string."""
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

    operation: ClassVar[str] = "translation"


class SpeechReader(_MediaReader):
    """Speech: sound, which tells nothing, or events of which the last has the usage."""

    operation: ClassVar[str] = "speech"

    def read_request(self, request: Json) -> None:
        """Count the characters: they are what tts-1 is billed by, and no answer has them."""
        if text(request.get("model")).startswith("tts-1"):
            self.reading.tokens = {}
            self.reading.units = {"input_characters": len(text(request.get("input")))}

    def _use(self, usage: Json) -> None:
        tokens = tokens_of(usage)
        if spoken := tokens.pop("output", 0):
            tokens["output_audio"] = tokens.get("output_audio", 0) + spoken
        self.reading.tokens = tokens


class VideosReader(_MediaReader):
    """Videos, Google's too. They are made long after this answer and billed by the second, with no usage."""

    operation: ClassVar[str] = "video_generation"

    def _take(self, part: _Media) -> None:
        super()._take(part)
        self.reading.model = text(part.model) or self.reading.model
