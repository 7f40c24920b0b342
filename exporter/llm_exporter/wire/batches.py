"""Batch results. They are billed at batch rates, and counted when they are retrieved.

Results come as a file of JSON lines, one for each request: https://platform.openai.com/docs/guides/batch,
https://docs.claude.com/en/docs/build-with-claude/batch-processing, https://ai.google.dev/gemini-api/docs/batch-api.
Gemini's batch jobs may also contain their results inline.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from typing_extensions import override

from .anthropic import MessagesReader
from .fields import Json, count, decoder, text, without_zeros
from .gemini import EmbedContentReader, GenerateContentReader
from .openai import ChatReader, CompletionReader, EmbeddingsReader
from .openai_responses import ResponsesReader
from .reader import Reader


class _ResultsReader(Reader):
    """Reads the response on each line."""

    is_retrieval = True
    is_batch = True
    is_json_lines = True
    operation = "chat"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return True  # every line is a response

    @override
    def read_body(self, data: bytes) -> None:
        self.read_event(data)

    def _add(self, batch_id: str, reader: Reader, response: bytes) -> None:
        """Add a response of the batch.

        Args:
            batch_id: identifies the batch; the unique id of one of its lines will do.
            reader: the reader of the response.
            response: the body, as the interactive API would send it.
        """
        reader.read_body(response)
        reader.reading.operation = reader.operation
        # Its own sub-calls are billed at batch rates too.
        self.reading.sub_calls += [reader.reading, *reader.reading.sub_calls]
        self.reading.response_id = self.reading.response_id or f"batch {batch_id}"


class _Response(msgspec.Struct):
    object: Any = None
    status_code: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct):
    type: Any = None
    message: msgspec.Raw = msgspec.Raw()


class _OpenAILine(msgspec.Struct):
    id: Any = None
    response: _Response | None = None


class _AnthropicLine(msgspec.Struct):
    result: _Result | None = None


class _Message(msgspec.Struct):
    id: Any = None


_decode_openai_line: Final = decoder(_OpenAILine)
_decode_response: Final = decoder(_Response)
_decode_anthropic_line: Final = decoder(_AnthropicLine)
_decode_message: Final = decoder(_Message)

_READERS: Final[dict[str, type[Reader]]] = {
    "chat.completion": ChatReader,
    "text_completion": CompletionReader,
    "response": ResponsesReader,
    "list": EmbeddingsReader,
}
"""By the `object` field of a response."""


class OpenAIFileReader(_ResultsReader):
    """A file from OpenAI. The endpoint serves any file; only lines with batch results are read."""

    @override
    def read_event(self, data: bytes) -> None:
        line = _decode_openai_line(data)
        if (
            line.response is None
            or not text(line.id).startswith("batch_req_")
            or line.response.status_code != 200
        ):
            return
        if reader := _READERS.get(text(_decode_response(line.response.body).object)):
            self._add(text(line.id), reader(), bytes(line.response.body))


class AnthropicResultsReader(_ResultsReader):
    """The results of a message batch."""

    @override
    def read_event(self, data: bytes) -> None:
        line = _decode_anthropic_line(data)
        if line.result is not None and line.result.type == "succeeded":
            message = bytes(line.result.message)
            self._add(text(_decode_message(message).id), MessagesReader(), message)


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
    """An embedding. It may have a `tokenCount`, a number or a string, instead of usage."""

    @override
    def read_body(self, data: bytes) -> None:
        super().read_body(data)
        number = _decode_gemini_embedding(data).token_count
        if self.reading.tokens is None and number is not None:
            number = int(number) if text(number).isdecimal() else number
            self.reading.tokens = without_zeros({"input": count(number)})


class _GeminiResultsReader(_ResultsReader):
    """Results from Gemini: responses of `generateContent` or `embedContent`."""

    def _add_response(self, batch_id: str, response: bytes) -> None:
        if not response:
            return  # the request failed
        embedding = bytes(_decode_gemini_embedding(response).embedding)
        reader = _EmbeddingReader() if embedding else GenerateContentReader()
        reader.reading.model = self.reading.model
        self._add(batch_id, reader, response)


class GeminiBatchReader(_GeminiResultsReader):
    """A batch job, which is polled until it is done. It contains the results of inline requests."""

    is_json_lines = False

    @override
    def read_body(self, data: bytes) -> None:
        job = _decode_gemini_job(data)
        if job.metadata is None or not text(job.metadata.state).endswith(_ENDED):
            return
        self.reading.model = text(job.metadata.model).rpartition("/")[2]
        output = job.metadata.output or _GeminiOutput()
        for results in (output.inlined_responses, output.inlined_embed_content_responses):
            for result in (results and results.inlined_responses) or []:
                self._add_response(text(job.name), bytes(result.response))

    @override
    def read_event(self, data: bytes) -> None:
        self.read_body(data)


class GeminiFileReader(_GeminiResultsReader):
    """A file generated by Gemini: batch results, or anything else, such as a video."""

    def __init__(self) -> None:
        super().__init__()
        self._file = ""

    @override
    def read_request(self, request: Json) -> None:
        self._file = text(request.get("file"))

    @override
    def read_event(self, data: bytes) -> None:
        # A line without counts need not be a batch result.
        if b'"usageMetadata"' in data or b'"tokenCount"' in data:
            self._add_response(self._file, bytes(_decode_gemini_result(data).response))
