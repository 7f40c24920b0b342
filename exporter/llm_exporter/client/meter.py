"""`Meter` follows one call from its request to the last byte of its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from math import ceil
from time import perf_counter
from types import MappingProxyType
from typing import Final, Protocol

import msgspec

from ..budgets.errors import BudgetExceeded
from ..call import Call, ErrorKind, TokenType
from ..labels import current_labels
from ..wire.error_kinds import kind_of_code, kind_of_exception
from ..wire.framing import Framing, Ignored, framing_for
from ..wire.reader import Reader, Reading
from ..wire.text_length import text_length
from .default import pipeline
from .retrieval import Outcome

current: Final[ContextVar[Meter | None]] = ContextVar("llm_exporter_meter", default=None)
"""The meter of the SDK call that the code running here belongs to."""


class Filter(Protocol):
    """Takes something out of a stream."""

    held: bytes
    """What is neither shown nor taken out yet."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what is left of the stream so far, beyond what was returned before."""

    def end(self) -> bytes:
        """Return what was held, when there will be no more."""


class Meter:
    """One SDK call: any number of HTTP attempts, of which the last one is answered or fails.

    No method but `admit` raises: what goes wrong in here is for the log and `llm_exporter_errors_total`.
    """

    # Of the class, so that a call does not pay for setting them.
    hidden: Filter | None = None
    """What takes a part of the stream out of it that only we asked for."""
    _headers: Mapping[str, str] = MappingProxyType({})
    _content_type = ""
    _framing: Framing | None = None
    _first_token: float | None = None
    _answered = False
    _streaming = False
    _finished = False

    def __init__(
        self,
        *,
        provider: str,
        model: str,
        reader: type[Reader],
        request: object = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self._pipeline = pipeline()
        self._reader = reader()
        self._reader.reading.model = model
        if isinstance(request, dict):
            self._reader.read_request(request)
        self._request = request
        self._failures: list[ErrorKind] = []
        self._call = Call(
            provider=provider,
            model=model,
            requested_model=model,
            operation=reader.operation,
            labels=dict(current_labels() if labels is None else labels),
        )
        self._began = self._last_byte = perf_counter()
        if not reader.is_retrieval:
            self._pipeline.started(self._call)

    def admit(self) -> None:
        """Hold what the call may come to in the budgets that are for it.

        Raises:
            BudgetExceeded: when it must not be sent, and only that.
        """
        if self._reader.is_free or self._reader.is_retrieval:
            return
        try:
            self._pipeline.budgets.hold(self._call, self._request)
        except BudgetExceeded as exceeded:
            self.refused(exceeded)
            raise
        except Exception as error:
            self._pipeline.error("budgets", error)

    def refused(self, exceeded: BudgetExceeded) -> None:
        """Finish a call that a budget kept from being sent."""
        self._call.budget = exceeded.budget
        self.finish("budget")

    def failed(self, kind: ErrorKind) -> None:
        """Note that an attempt failed; if another one follows, it was retried."""
        self._last_byte = perf_counter()
        self._failures.append(kind)

    def answering(self, headers: Mapping[str, str]) -> None:
        """Note that an attempt is being answered with a success: `feed` will bring the body.

        Args:
            headers: of the answer; their names are asked for in lower case.
        """
        self._answered = True
        self._headers = headers
        self._content_type = content_type = headers.get("content-type", "")
        if not content_type.startswith("text/event-stream"):
            self.hidden = None

    def streaming(self) -> None:
        """Note that the body is still to be read when the SDK's method returns."""
        self._streaming = True
        self._call.stream = True

    def feed(self, chunk: bytes) -> None:
        """Read the next decoded bytes of the body."""
        self._last_byte = perf_counter()
        try:
            if self._framing is None:
                self._framing = framing_for(self._content_type, chunk, self._reader)
            self._framing.feed(chunk)
        except Exception as error:
            self._broken(error)
        if self._first_token is None and self._reader.reading.token_seen:
            self._first_token = self._last_byte

    def visible(self, chunk: bytes) -> bytes:
        """Return what the caller is to see of a chunk."""
        if self.hidden is None:
            return chunk
        try:
            return self.hidden.feed(chunk)
        except Exception as error:
            return self._unfiltered(error) + chunk

    def visible_rest(self) -> bytes:
        """Return what the caller is to see when there are no more chunks."""
        if self.hidden is None:
            return b""
        try:
            return self.hidden.end()
        except Exception as error:
            return self._unfiltered(error)

    def _unfiltered(self, error: Exception) -> bytes:
        held, self.hidden = self.hidden.held if self.hidden else b"", None
        self._pipeline.error("filter", error)
        return held

    def finish(self, error: ErrorKind | None = None) -> None:
        """Record the call, the first time this is called.

        Args:
            error: why the answer broke off, or None when it was read as far as its reader wanted.
        """
        if self._finished:
            return
        self._finished = True
        try:
            self._end_framing()
            self._pipeline.finished(self._conclude(error))
        except Exception as mistake:
            self._pipeline.error("meter", mistake)
            self._pipeline.finished(Outcome(self._call))

    def returned(self) -> None:
        """Finish the call of an SDK method that has returned, unless its answer is still to be read."""
        if not self._streaming:
            self.finish()

    def raised(self, error: BaseException) -> None:
        """Finish the call of an SDK method that has raised."""
        kind = kind_of_exception(error)
        if self._answered and kind != "cancelled":
            self.finish()  # the provider did its work; it is the SDK or the caller who cannot use the answer
        else:
            self.finish(kind)

    def guard(self, look: Callable[..., None], *args: object) -> None:
        """Run code of ours inside the user's call: an exception in it goes to the log, not to the caller."""
        try:
            look(*args)
        except Exception as error:
            self._pipeline.error("tap", error)

    def _end_framing(self) -> None:
        if self._framing is not None:
            try:
                self._framing.end()
            except Exception as error:
                self._broken(error)

    def _conclude(self, error: ErrorKind | None) -> Outcome:
        """Write what was seen into the call."""
        call, reading = self._call, self._reader.reading
        call.duration = self._last_byte - self._began
        if not self._answered and self._failures and error != "cancelled":
            error = self._failures.pop()
        if reading.error is not None and error is None:
            error = kind_of_code(reading.error)
        call.error = error
        call.retries = self._failures
        call.usage_reported = self._reader.is_free or reading.tokens is not None
        if self._first_token is not None:
            call.time_to_first_token = self._first_token - self._began
        _write(reading, call)
        if self._usage_is_lost():
            self._estimate()
        return Outcome(
            call,
            sub_calls=[self._sub_call(sub) for sub in reading.sub_calls],
            response_id=reading.response_id,
            pending=reading.pending,
            retrieved=self._reader.is_retrieval,
            headers=self._headers,
        )

    def _usage_is_lost(self) -> bool:
        """Whether the provider worked on a stream and did not say, or not get to say, what it used."""
        reading = self._reader.reading
        return self._streaming and not self._call.usage_reported and not reading.pending and not reading.error

    def _estimate(self) -> None:
        """Estimate the tokens from the text that was sent and seen, at about four characters a token.

        The ratio is OpenAI's for English: https://help.openai.com/en/articles/4936856.
        """
        asked = text_length(self._request)
        seen = self._framing.generated_length() if self._framing is not None else 0
        estimates: dict[TokenType, int] = {"input": ceil(asked / 4), "output": ceil(seen / 4)}
        self._call.tokens = {kind: number for kind, number in estimates.items() if number}
        self._call.estimated = True

    def _sub_call(self, reading: Reading) -> Call:
        call = self._call
        other = reading.model not in ("", call.model)
        sub_call = Call(
            provider=call.provider,
            model=call.model,
            # A model that was not asked for is not to be priced as the one that was.
            requested_model=reading.model if other else call.requested_model,
            operation=reading.operation or call.operation,
            labels=call.labels,
            started=call.started,
            service_tier=call.service_tier,
            batch=self._reader.is_batch,
        )
        _write(reading, sub_call)
        return sub_call

    def _broken(self, error: Exception) -> None:
        """Stop reading this answer: it is not what its format says, or our reader is wrong."""
        self._framing = Ignored(self._reader)
        if not isinstance(error, msgspec.DecodeError):
            self._pipeline.error("wire", error)


def _write(reading: Reading, call: Call) -> None:
    call.model = reading.model or call.model
    call.tokens = reading.tokens or {}
    call.units = reading.units
    call.reported_cost = reading.reported_cost
    call.speed = reading.speed
    call.service_tier = reading.service_tier or call.service_tier
