"""The results of batches, which are billed at batch rates and known when they are fetched.

A file of results is JSON lines, one for each request: https://platform.openai.com/docs/guides/batch,
https://docs.claude.com/en/docs/build-with-claude/batch-processing.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final

import msgspec

from .anthropic import MessagesReader
from .openai import ChatReader, CompletionReader, EmbeddingsReader, ResponsesReader
from .reading import Reader, decoder, text


class _ResultsReader(Reader):
    """Reads each line as the answer that it holds."""

    retrieves: ClassVar[bool] = True
    lines: ClassVar[bool] = True
    operation: ClassVar[str] = "chat"

    def telling(self, data: bytes) -> bool:
        """See `Reader.telling`: every line is an answer."""
        return True

    def body(self, data: bytes) -> None:
        """Read the only line."""
        self.event(data)

    @abstractmethod
    def event(self, data: bytes) -> None:
        """Read one line."""

    def _take(self, line_id: str, reader: Reader, answer: bytes) -> None:
        reader.body(answer)
        reader.reading.operation = reader.operation
        self.reading.sub_calls.append(reader.reading)
        # The ids of lines are unique, so the first one stands for the file.
        self.reading.response_id = self.reading.response_id or f"batch {line_id}"


class _Answer(msgspec.Struct):
    object: Any = None
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct):
    type: Any = None
    message: msgspec.Raw = msgspec.Raw()


class _OpenAILine(msgspec.Struct):
    id: Any = None
    response: _Answer | None = None


class _AnthropicLine(msgspec.Struct):
    result: _Result | None = None


class _Message(msgspec.Struct):
    id: Any = None


_decode_openai_line: Final = decoder(_OpenAILine)
_decode_answer: Final = decoder(_Answer)
_decode_anthropic_line: Final = decoder(_AnthropicLine)
_decode_message: Final = decoder(_Message)

_READERS: Final[dict[str, type[Reader]]] = {
    "chat.completion": ChatReader,
    "text_completion": CompletionReader,
    "response": ResponsesReader,
    "list": EmbeddingsReader,
}
"""By the `object` that an answer says it is."""


class OpenAIFileReader(_ResultsReader):
    """A file of OpenAI's: any file can be fetched there, and only lines that are results are read."""

    def event(self, data: bytes) -> None:
        """Read one line."""
        line = _decode_openai_line(data)
        if (
            line.response is None
            or not text(line.id).startswith("batch_req_")
            or line.response.status_code != 200
        ):
            return
        if reader := _READERS.get(text(_decode_answer(line.response.body).object)):
            self._take(text(line.id), reader(), bytes(line.response.body))


class AnthropicResultsReader(_ResultsReader):
    """The results of a message batch."""

    def event(self, data: bytes) -> None:
        """Read one line."""
        line = _decode_anthropic_line(data)
        if line.result is not None and line.result.type == "succeeded":
            message = bytes(line.result.message)
            self._take(text(_decode_message(message).id), MessagesReader(), message)
