"""The results of batches, which are billed at batch rates and known when they are fetched.

A file of results is JSON lines, one for each request: https://platform.openai.com/docs/guides/batch,
https://docs.claude.com/en/docs/build-with-claude/batch-processing, https://ai.google.dev/gemini-api/docs/batch-api.
Gemini's jobs may hold their results themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Final

import msgspec

from .anthropic import MessagesReader
from .fields import Json, count, decoder, text, without_zeros
from .gemini import EmbedContentReader, GenerateContentReader
from .openai import ChatReader, CompletionReader, EmbeddingsReader, ResponsesReader
from .reader import Reader


class _ResultsReader(Reader):
    """Reads each line as the answer that it holds."""

    is_retrieval: ClassVar[bool] = True
    is_batch: ClassVar[bool] = True
    is_json_lines: ClassVar[bool] = True
    operation: ClassVar[str] = "chat"

    def may_carry_usage(self, data: bytes) -> bool:
        """See `Reader.may_carry_usage`: every line is an answer."""
        return True

    def read_body(self, data: bytes) -> None:
        """Read the only line."""
        self.read_event(data)

    @abstractmethod
    def read_event(self, data: bytes) -> None:
        """Read one line."""

    def _take(self, batch_id: str, reader: Reader, answer: bytes) -> None:
        """Read one answer.

        Args:
            batch_id: what tells the batch from others; the unique id of one of its lines does.
            reader: reads the answer.
            answer: a body as the plain API would send it.
        """
        reader.read_body(answer)
        reader.reading.operation = reader.operation
        self.reading.sub_calls.append(reader.reading)
        self.reading.response_id = self.reading.response_id or f"batch {batch_id}"


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

    def read_event(self, data: bytes) -> None:
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

    def read_event(self, data: bytes) -> None:
        """Read one line."""
        line = _decode_anthropic_line(data)
        if line.result is not None and line.result.type == "succeeded":
            message = bytes(line.result.message)
            self._take(text(_decode_message(message).id), MessagesReader(), message)


class _GeminiResult(msgspec.Struct):
    response: msgspec.Raw = msgspec.Raw()


class _GeminiResults(msgspec.Struct, rename="camel"):
    inlined_responses: list[_GeminiResult] | None = None


class _GeminiOutput(msgspec.Struct, rename="camel"):
    inlined_responses: _GeminiResults | None = None
    inlined_embed_content_responses: _GeminiResults | None = None


class _GeminiMetadata(msgspec.Struct):
    model: Any = None
    state: Any = None
    output: _GeminiOutput | None = None


class _GeminiJob(msgspec.Struct):
    name: Any = None
    metadata: _GeminiMetadata | None = None


class _GeminiEmbedding(msgspec.Struct, rename="camel"):
    embedding: msgspec.Raw = msgspec.Raw()
    token_count: Any = None


_decode_gemini_result: Final = decoder(_GeminiResult)
_decode_gemini_job: Final = decoder(_GeminiJob)
_decode_gemini_embedding: Final = decoder(_GeminiEmbedding)

_ENDED: Final = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


class _EmbeddingReader(EmbedContentReader):
    """An embedding, which may have a count of its own, as a number or in a string, and no usage."""

    def read_body(self, data: bytes) -> None:
        """Read an embedding."""
        super().read_body(data)
        number = _decode_gemini_embedding(data).token_count
        if self.reading.tokens is None and number is not None:
            number = int(number) if text(number).isdecimal() else number
            self.reading.tokens = without_zeros({"input": count(number)})


class _GeminiResultsReader(_ResultsReader):
    """Results of Gemini's, as `generateContent` and `embedContent` would have answered."""

    def _answer(self, batch_id: str, answer: bytes) -> None:
        if not answer:
            return  # a request that failed
        embeds = bytes(_decode_gemini_embedding(answer).embedding)
        reader = _EmbeddingReader() if embeds else GenerateContentReader()
        reader.reading.model = self.reading.model
        self._take(batch_id, reader, answer)


class GeminiBatchReader(_GeminiResultsReader):
    """A batch job: polled until it is done, and then with the results of requests that came inline."""

    is_json_lines: ClassVar[bool] = False

    def read_body(self, data: bytes) -> None:
        """Read a job."""
        job = _decode_gemini_job(data)
        if job.metadata is None or not text(job.metadata.state).endswith(_ENDED):
            return
        self.reading.model = text(job.metadata.model).rpartition("/")[2]
        output = job.metadata.output or _GeminiOutput()
        for results in (output.inlined_responses, output.inlined_embed_content_responses):
            for result in (results and results.inlined_responses) or []:
                self._answer(text(job.name), bytes(result.response))

    def read_event(self, data: bytes) -> None:
        """Read a job, which never comes in events."""
        self.read_body(data)


class GeminiFileReader(_GeminiResultsReader):
    """A file that Gemini made: results of a batch, or anything else, such as a video."""

    def __init__(self) -> None:
        super().__init__()
        self._file = ""

    def read_request(self, request: Json) -> None:
        """Note the name of the file, which no line of it has."""
        self._file = text(request.get("file"))

    def read_event(self, data: bytes) -> None:
        """Read one line; one with no counts in it may be of any file."""
        if b'"usageMetadata"' in data or b'"tokenCount"' in data:
            self._answer(self._file, bytes(_decode_gemini_result(data).response))
