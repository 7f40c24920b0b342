"""What requests ask for, checked: a mistake in one names the parameter and what it takes."""

from __future__ import annotations

import gzip
import math
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ..call import Call
from ..config.durations import seconds
from .ledger.base import Query

MAX_BODY: Final = 64 * 2**20
"""Bytes of a request's body, once unpacked."""

_FILTERS: Final = ("provider", "model", "operation", "agent", "phase", "project")
_decode_calls: Final = msgspec.json.Decoder(list[Call]).decode


class Problem(Exception):  # noqa: N818
    """An answer that says what is wrong, as RFC 9457 has it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class _Envelope(msgspec.Struct):
    calls: list[Call]


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


def calls_in(body: bytes, encoding: str) -> list[Call]:
    """Return the calls in a request's body: a list of them, or an object with `calls`.

    Raises:
        Problem: for a body that is something else, with the place of the first mistake.
    """
    body = decoded(body, encoding)
    try:
        calls = _decode_envelope(body).calls if body.lstrip()[:1] == b"{" else _decode_calls(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"not a list of calls: {error}") from None
    for number, call in enumerate(calls):
        if mistake := _mistake(call):
            raise Problem(400, f"call {number}: {mistake}")
    return calls


def decoded(body: bytes, encoding: str) -> bytes:
    """Return a request's body without its content encoding.

    Raises:
        Problem: for one that is not understood, or a body that is not in it.
    """
    if encoding == "gzip":
        return _unpacked(body)
    if encoding not in ("", "identity"):
        raise Problem(415, f"Content-Encoding {encoding!r}: only gzip is understood")
    return body


def _unpacked(body: bytes) -> bytes:
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = decompressor.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise Problem(400, f"not gzip: {error}") from None
    if decompressor.unconsumed_tail:
        raise Problem(413, f"more than {MAX_BODY} bytes: send fewer calls at a time")
    if not decompressor.eof:
        raise Problem(400, "not gzip: it ends too early")
    return unpacked


def packed(body: bytes) -> bytes:
    """Return what `calls_in` unpacks."""
    return gzip.compress(body, compresslevel=1, mtime=0)


def _mistake(call: Call) -> str:
    """Return why a call cannot be counted: numbers that types allow may still be no counts."""
    if not call.id:
        return "id is empty"
    counts: dict[str, float] = {f"tokens.{kind}": number for kind, number in call.tokens.items()}
    counts |= {f"units.{unit}": number for unit, number in call.units.items()}
    counts |= {f"cost.{kind}": usd for kind, usd in call.cost.items()}
    counts |= {"duration": call.duration, "started": call.started, "unpriced_tokens": call.unpriced_tokens}
    counts |= {
        "time_to_first_token": call.time_to_first_token or 0.0,
        "reported_cost": call.reported_cost or 0.0,
    }
    for name, number in counts.items():
        if not 0 <= number < _TOO_LARGE:
            return f"{name} is {number}, which cannot be"
    if call.started >= _YEAR_9999:
        return f"started is {call.started}, which is after the year 9998"
    return ""


_YEAR_9999: Final = 253370764800.0
"""Later periods have no end that can be told."""
_TOO_LARGE: Final = 2**53
"""From here on a float, as Prometheus has it, does not hold every integer."""


class Parameters:
    """The query of a URL.

    Args:
        values: by name, as they are written.
        known: the names that mean something; another one is a mistake rather than ignored.
    """

    def __init__(self, values: Mapping[str, str], *known: str) -> None:
        for name in values:
            if name not in known:
                raise Problem(400, f"there is no parameter {name!r}: there are {', '.join(known)}")
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter."""
        return self._values.get(name, default)

    def one_of(self, name: str, *choices: str) -> str:
        """Return one of some values, the first one when it is not given."""
        value = self._values.get(name, choices[0])
        if value not in choices:
            raise Problem(400, f"{name} is {value!r}: it is one of {', '.join(choices)}")
        return value

    def names(self, name: str) -> list[str]:
        """Return the names in a list with commas."""
        return [part.strip() for part in self.text(name).split(",") if part.strip()]

    def integer(self, name: str, default: int | None, at_most: int) -> int | None:
        """Return a positive integer."""
        if name not in self._values:
            return default
        value = self._values[name]
        if not (value.isascii() and value.isdecimal()) or not 1 <= int(value[:20]) <= at_most:
            raise Problem(400, f"{name} is {value!r}: it is an integer from 1 to {at_most}")
        return int(value)

    def time(self, name: str) -> float | None:
        """Return a time in seconds since the epoch, given so or as RFC 3339."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            number = float(value)
        except ValueError:
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                raise Problem(
                    400, f"{name} is {value!r}: write 2026-01-31T12:00:00Z, or seconds since 1970"
                ) from None
            number = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if not 0 <= number < _END_OF_TIME or math.isnan(number):
            raise Problem(400, f"{name} is {value!r}: it is before 1970 or after 9999")
        return number

    def query(self, **overrides: Any) -> Query:
        """Return which calls are asked for, by the parameters in `QUERY`."""
        since = self.time("since")
        if window := self.text("window"):
            if since is not None:
                raise Problem(400, "window and since are both given: one is enough")
            try:
                since = time.time() - seconds(window)
            except ValueError as error:
                raise Problem(400, f"window: {error}") from None
        match = {name: value for name in _FILTERS if (value := self.text(name))}
        for label in self.names("label"):
            name, colon, value = label.partition(":")
            if not (name and colon):
                raise Problem(400, f"label is {label!r}: write name:value")
            match[name] = value
        asked: dict[str, Any] = {
            "since": since,
            "until": self.time("until"),
            "session": self.text("session") or None,
            "match": match,
        }
        return Query(**{**asked, **overrides})


QUERY: Final = ("since", "until", "window", "session", *_FILTERS, "label")
"""The parameters that `Parameters.query` reads."""

_END_OF_TIME: Final = 253402300800.0


def rfc3339(moment: float | None) -> str | None:
    """Return a time as text, in UTC to the millisecond."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
