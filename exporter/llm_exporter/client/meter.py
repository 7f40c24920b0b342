"""`Meter` follows one call from its request to the last byte of its response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from math import ceil
from time import perf_counter
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec

from ..bounds import clean_text
from ..budgets.errors import BudgetExceeded
from ..call import Call, ErrorKind, TokenType
from ..labels import current_labels
from ..pricing.endpoint import Endpoint
from ..wire.error_kinds import kind_of_code, kind_of_exception
from ..wire.framing import Framing, Ignored, framing_for
from ..wire.reader import Reader, Reading
from ..wire.text_length import text_length
from .default import pipeline
from .guard import guarded, report_error
from .retrieval import Outcome

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
        endpoint: Endpoint,
        model: str,
        reader: type[Reader],
        request: object = None,
        url: str = "",
        labels: Mapping[str, str] | None = None,
        route: str = "",
    ) -> None:
        self._pipeline = pipeline()
        self._reader = reader()
        self._reader.reading.model = model = clean_text(model)
        if isinstance(request, dict):
            self._reader.read_request(request)
        if url:
            self._reader.read_url(url)
        self._request = request
        self._endpoint = endpoint
        self._failures: list[ErrorKind] = []
        self._call = Call(
            provider=endpoint.provider,
            region=endpoint.region,
            host=endpoint.host,
            model=model,
            requested_model=model,
            operation=reader.operation,
            labels=dict(current_labels() if labels is None else labels),
            route=route,
        )
        self._began = self._last_byte = perf_counter()
        if not reader.is_retrieval:
            self._pipeline.started(self._call)

    def hold_budget(self) -> Iterator[float]:
        """Hold the estimated cost of the call in the budgets that match it.

        Yields:
            The seconds to sleep before the next step, while a shared budget has no lease for the call.

        Raises:
            BudgetExceeded: if the call must not be sent.
        """
        if self._reader.is_free or self._reader.is_retrieval:
            return
        if self._endpoint.runs_locally(self._call.model):
            self._call.cost_source = "local"
        try:
            yield from self._pipeline.budgets.holding(self._call, self._request)
        except BudgetExceeded as exceeded:
            self.refused(exceeded)
            raise
        except Exception as error:
            report_error("budgets", error)

    def refused(self, exceeded: BudgetExceeded) -> None:
        """Finish a call that a budget kept from being sent."""
        self._call.budget = exceeded.budget
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
        self._content_type = content_type = headers.get("content-type", "")
        if content_type and not content_type.lower().startswith("text/"):
            self.filter = None  # not server-sent events

    def will_stream(self) -> None:
        """Note that the caller reads the body after the SDK's method has returned."""
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

    def show(self, chunk: bytes) -> bytes:
        """Read the next decoded bytes of the body, and return what the caller may see now."""
        self.feed(chunk)
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
        outcome = guarded("meter", self._conclude, error)
        guarded("meter", self._pipeline.finished, outcome if outcome is not None else Outcome(self._call))

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

    def _end_framing(self) -> None:
        if self._framing is not None:
            try:
                self._framing.end()
            except Exception as error:
                self._broken(error)

    def _conclude(self, error: ErrorKind | None) -> Outcome:
        """Write everything that was read into the call."""
        self._end_framing()
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
        _write(reading, call, self._endpoint)
        if self._usage_is_lost():
            self._estimate()
        return Outcome(
            call,
            sub_calls=[self._sub_call(sub) for sub in reading.sub_calls],
            response_id=reading.response_id,
            containers=reading.containers,
            pending=reading.pending,
            retrieved=self._reader.is_retrieval,
            is_running_total=self._reader.is_running_total,
            headers=self._headers,
        )

    def _usage_is_lost(self) -> bool:
        """Return whether a stream ended without usage, though the provider generated it."""
        reading = self._reader.reading
        is_lost = self._streaming and not self._call.usage_reported and self._reader.is_text
        return is_lost and not reading.pending and not reading.error

    def _estimate(self) -> None:
        """Estimate the tokens from the text that was sent and received, at four characters a token.

        The ratio is OpenAI's for English: https://help.openai.com/en/articles/4936856.
        """
        sent = text_length(self._request)
        received = self._framing.generated_length() if self._framing is not None else 0
        estimates: dict[TokenType, int] = {"input": ceil(sent / 4), "output": ceil(received / 4)}
        self._call.tokens = {kind: number for kind, number in estimates.items() if number}
        self._call.estimated = True

    def _sub_call(self, reading: Reading) -> Call:
        call = self._call
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
