"""`Meter` follows one call from its request to the last byte of its response."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from math import ceil
from time import perf_counter, time
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from ..bounds import clean_text
from ..budgets.errors import BudgetExceeded
from ..call import Call, ErrorKind, TokenType, new_id
from ..pricing.endpoint import Endpoint
from ..wire.error_kinds import kind_of_code, kind_of_exception
from ..wire.framing import Body, Framing, Ignored, framing_for
from ..wire.reader import Reader, Reading
from ..wire.text_length import text_length
from .default import pipeline
from .guard import guarded, report_error
from .inferred_labels import labels_of_call
from .retrieval import Outcome
from .tracing import sampled_span, trace_id_of

current: Final[ContextVar[Meter | None]] = ContextVar("llm_exporter_meter", default=None)
"""The meter of the SDK call that is being made in this context."""


class Filter(Protocol):
    """Removes a part of a stream."""

    @property
    def held(self) -> bytes:
        """The bytes that are neither passed on nor removed yet."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what the caller may see now that a chunk has arrived."""

    def end(self) -> bytes:
        """Return what is still held at the end of the stream."""


class Meter:
    """One SDK call: one or more HTTP attempts, of which the last one succeeds or fails.

    On the caller's thread it only notes what happens when. The record of the call is made, and a body that
    came whole is read, on the pipeline's thread.

    No method but `hold_budget` raises: other errors go to the log and `llm_exporter_errors_total`.

    Args:
        endpoint: where the call goes.
        model: the requested model; empty if it is not known.
        reader: the class that reads the response.
        request: the decoded body of the request.
        url: the URL of the request; empty if the reader does not need it.
        labels: the labels of the call; those in force here by default.
        route: the route of the request, if no reader takes its response.
    """

    # Defaults on the class: setting them on each object would cost every call.
    filter: Filter | None = None
    """Removes a part of the stream that we requested and the caller did not."""
    usage_request: Any = None
    """Our request for that part, a `taps.usage_chunk.UsageRequest`, until the service rejects it."""
    owner: Any = None
    stand_in: Any = None
    """The object of the SDK that has an HTTP client, and the `taps.send.HttpClientStandIn` for it."""
    _headers: Mapping[str, str] = MappingProxyType({})
    _body: bytes | str = b""
    """The body of a response that came whole and is not read yet."""
    _sent = 0
    """The length of the text of the request, if the framing is read after the request is gone."""
    _framing: Framing | None = None
    _first_token: float | None = None
    _error: ErrorKind | None = None
    _budget = ""
    _estimated: dict[TokenType, int] | None = None
    _answered = False
    _streaming = False
    _ended = False
    _finished = False

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        model: str,
        reader: type[Reader],
        request: object = None,
        url: str = "",
        labels: Mapping[str, str] | None = None,
        route: str = "",
    ) -> None:
        self._pipeline = destination = pipeline()
        self._endpoint = endpoint
        self._reader = read = reader()
        self._model = read.reading.model = model
        if isinstance(request, dict):
            read.read_request(request)
        if url:
            read.read_url(url)
        self._request = request
        self._labels = labels_of_call() if labels is None else labels
        self._route = route
        self._failures: list[ErrorKind] = []
        self._records: list[Call] = []
        """The record of the call. If two threads make it at once, there are two, and the first one counts."""
        self._span = sampled_span()
        self._started = time()
        self._began = self._last_byte = perf_counter()
        if not reader.is_retrieval:
            if destination.budgets.may_refuse:
                self._made()  # before the other thread sees this meter
            destination.started(self._made)

    def _made(self) -> Call:
        """Return the record of the call, made when it is first needed.

        Two threads may need it first: a response that exceeds what may wait for our thread is read on the
        caller's. Both get the same record, because `append` is atomic.
        """
        if not self._records:
            endpoint, model = self._endpoint, clean_text(self._model)
            call = Call(
                id=new_id(self._started),
                started=self._started,
                provider=endpoint.provider,
                region=endpoint.region,
                host=endpoint.host,
                model=model,
                requested_model=model,
                operation=self._reader.operation,
                labels=dict(self._labels),
                route=self._route,
                trace_id=trace_id_of(self._span),
            )
            self._records.append(call)
        return self._records[0]

    def hold_budget(self) -> Iterable[float]:
        """Hold the estimated cost of the call in the budgets that match it.

        Returns:
            The seconds to sleep before each next step, while a shared budget has no lease for the call, or
            calls that have ended are settled. Iterating raises `BudgetExceeded` if the call must not be sent.
        """
        if not self._records or self._reader.is_free:
            return ()
        call = self._records[0]
        try:
            if self._endpoint.runs_locally(call.model):
                call.cost_source = "local"
            pauses = self._pipeline.budgets.holding(call, self._request)
        except Exception as error:
            report_error("budgets", error)
            return ()
        return pauses and self._waiting(pauses)

    def _waiting(self, pauses: Iterable[float]) -> Iterator[float]:
        try:
            yield from pauses
        except BudgetExceeded as exceeded:
            self.refused(exceeded)
            raise
        except Exception as error:
            report_error("budgets", error)

    def refused(self, exceeded: BudgetExceeded) -> None:
        """Finish a call that a budget kept from being sent."""
        self._budget = exceeded.budget
        self.finish("budget")

    def attempt_failed(self, kind: ErrorKind) -> None:
        """Note that an attempt failed. It counts as retried if another one follows."""
        self._last_byte = perf_counter()
        self._failures.append(kind)

    def response_started(self, headers: Mapping[str, str]) -> None:
        """Note that an attempt succeeds; `feed` brings the body.

        Args:
            headers: the headers of the response, by lower-case name.
        """
        self._answered = True
        self._headers = headers
        if self.filter is not None:
            content_type = headers.get("content-type", "")
            if content_type and not content_type.lower().startswith("text/"):
                self.filter = None  # not server-sent events

    def will_stream(self) -> None:
        """Note that the caller reads the body after the SDK's method has returned."""
        self._streaming = True

    def received(self, body: bytes | str) -> None:
        """Take a body that came whole. It is not read before the call is finished."""
        self._last_byte = perf_counter()
        self._body = body

    def feed(self, chunk: bytes) -> None:
        """Read the next decoded bytes of the body."""
        self._last_byte = perf_counter()
        self._read(chunk)

    def _read(self, chunk: bytes) -> None:
        try:
            if self._framing is None:
                self._framing = framing_for(self._headers.get("content-type", ""), chunk, self._reader)
            self._framing.feed(chunk)
        except Exception as error:
            self._broken(error)
        if self._first_token is None and self._reader.reading.token_seen:
            self._first_token = self._last_byte

    def show(self, chunk: bytes) -> bytes:
        """Read the next decoded bytes of the body, and return what the caller may see now."""
        self._last_byte = perf_counter()
        if self._first_token is None or self._framing is None:
            self._read(chunk)
        else:  # most chunks of most streams
            try:
                self._framing.feed(chunk)
            except Exception as error:
                self._broken(error)
        if self.filter is None:
            return chunk
        try:
            return self.filter.feed(chunk)
        except Exception as error:
            return self._remove_filter(error) + chunk

    def filtered_rest(self) -> bytes:
        """Return what the caller may see at the end of the stream."""
        if self.filter is None:
            return b""
        try:
            return self.filter.end()
        except Exception as error:
            return self._remove_filter(error)

    def _remove_filter(self, error: Exception) -> bytes:
        """Stop filtering after an error; return the bytes that were held."""
        held, self.filter = self.filter.held if self.filter else b"", None
        report_error("filter", error)
        return held

    def finish(self, error: ErrorKind | None = None) -> None:
        """Record the call, the first time this is called.

        Args:
            error: why the response broke off; None if it did not.
        """
        if self._finished:
            return
        self._finished = True
        self._error = error
        unread = len(self._body)
        # A JSON body is not read before its end, however it came.
        if isinstance(self._framing, Body):
            unread = self._framing.size
            self._sent = guarded("meter", text_length, self._request) or 0
        elif self._framing is not None:
            guarded("meter", self._end, self._framing)
        # What waits for the other thread keeps no request, and no more of bodies than the pipeline lets it.
        self._request = self.usage_request = self.owner = self.stand_in = None
        try:
            self._pipeline.finished(self._outcome, unread)
        except Exception as failure:
            report_error("meter", failure)

    def returned(self) -> None:
        """Finish the call of an SDK method that has returned, unless its response is still to be read."""
        if not self._streaming:
            self.finish()

    def raised(self, error: BaseException) -> None:
        """Finish the call of an SDK method that has raised."""
        kind = kind_of_exception(error)
        if self._answered and kind != "cancelled":
            self.finish()  # the provider responded: the SDK or the caller could not use the response
        else:
            self.finish(kind)

    def _end(self, framing: Framing) -> None:
        """Read what is left of the response, and estimate its usage if it does not report any."""
        self._ended = True
        try:
            framing.end()
        except Exception as error:
            self._broken(error)
        if self._usage_is_lost():
            self._estimated = self._estimate(framing)

    def _outcome(self) -> Outcome:
        """Return the outcome of the finished call."""
        return guarded("meter", self._conclude) or Outcome(self._made())

    def _conclude(self) -> Outcome:
        """Read a body that was not read yet, and write everything that was read into the call."""
        if self._body:
            body, self._body = self._body, b""
            self._read(body.encode() if isinstance(body, str) else body)
        if self._framing is not None and not self._ended:
            self._end(self._framing)
        call, reading, error = self._made(), self._reader.reading, self._error
        call.stream = self._streaming
        call.budget = self._budget
        call.duration = self._last_byte - self._began
        if not self._answered and self._failures and error != "cancelled":
            error = self._failures.pop()
        if reading.error is not None and error is None:
            error = kind_of_code(reading.error)
        call.error = error
        call.retries = self._failures
        call.usage_reported = self._usage_is_reported
        if self._first_token is not None:
            call.time_to_first_token = self._first_token - self._began
        _write(reading, call, self._endpoint)
        if self._estimated is not None:
            call.tokens, call.estimated = self._estimated, True
        return Outcome(
            call,
            sub_calls=[self._sub_call(call, sub) for sub in reading.sub_calls],
            response_id=reading.response_id,
            containers=reading.containers,
            pending=reading.pending,
            retrieved=self._reader.is_retrieval,
            is_running_total=self._reader.is_running_total,
            headers=self._headers,
        )

    @property
    def _usage_is_reported(self) -> bool:
        return self._reader.is_free or self._reader.reading.tokens is not None

    def _usage_is_lost(self) -> bool:
        """Return whether a stream ended without usage, though the provider generated it."""
        reading = self._reader.reading
        is_lost = self._streaming and not self._usage_is_reported and self._reader.is_text
        return is_lost and not reading.pending and not reading.error

    def _estimate(self, framing: Framing) -> dict[TokenType, int]:
        """Estimate the tokens from the text that was sent and received, at four characters a token.

        The ratio is OpenAI's for English: https://help.openai.com/en/articles/4936856.
        """
        sent = self._sent or text_length(self._request)
        received = framing.generated_length()
        estimates: dict[TokenType, int] = {"input": ceil(sent / 4), "output": ceil(received / 4)}
        return {kind: number for kind, number in estimates.items() if number}

    def _sub_call(self, call: Call, reading: Reading) -> Call:
        other = reading.model not in ("", call.model)
        sub_call = Call(
            provider=call.provider,
            model=call.model,
            # Another model must not be priced as the one that was requested.
            requested_model=reading.model if other else call.requested_model,
            operation=reading.operation or call.operation,
            labels=call.labels,
            started=call.started,
            service_tier=call.service_tier,
            speed=call.speed,
            region=call.region,
            host=call.host,
            batch=self._reader.is_batch,
            trace_id=call.trace_id,
        )
        _write(reading, sub_call, self._endpoint)
        for unit in reading.containers.values():
            sub_call.units[unit] = sub_call.units.get(unit, 0) + 1
        return sub_call

    def _broken(self, error: Exception) -> None:
        """Stop reading this response: it does not follow its format, or our reader is wrong."""
        self._framing = Ignored(self._reader)
        if not isinstance(error, msgspec.DecodeError):
            report_error("wire", error)


def _write(reading: Reading, call: Call, endpoint: Endpoint) -> None:
    call.model = reading.model or call.model
    call.tokens = reading.tokens or {}
    call.units = reading.units
    if reading.reported_cost is not None and (reading.states_usd or endpoint.reports_usd()):
        call.reported_cost, call.reported_costs = reading.reported_cost, reading.reported_costs
    call.cost_source = "local" if endpoint.runs_locally(call.model) else None
    call.speed = reading.speed or call.speed
    call.service_tier = reading.service_tier or call.service_tier
    call.region = reading.region or call.region
