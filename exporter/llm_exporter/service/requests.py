"""Requests to the REST API, validated: an error names the parameter and what it accepts."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from ..bounds import MAX_TEXT_BYTES
from ..config.durations import seconds
from ..periods import DAY, END_OF_TIME, STEPS, WINDOWS, Step, Window
from .ledger.base import SUMMED_BY, Query

FILTERS: Final = ("since", "until", "window", "session", *SUMMED_BY, "label")
"""The parameters that `Parameters.query` reads."""

_SLACK_SECONDS: Final = 60.0
"""A window of a day that has just been read is a little longer than a day."""

_PART: Final = re.compile(r"(?:[^\\,]|\\.|\\$)+", re.DOTALL)
_LABEL: Final = re.compile(r"((?:[^\\:]|\\.)+):((?:[^\\]|\\.)*)", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)

_T = TypeVar("_T", bound=str)


class Problem(Exception):  # noqa: N818
    """An error response, as in RFC 9457."""

    def __init__(
        self, status: int, detail: str, headers: Mapping[str, str | Sequence[str]] = MappingProxyType({})
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers


class Parameters:
    """The query parameters of a request.

    Args:
        values: The parameters as text.
        known: The names of the supported parameters.

    Raises:
        Problem: A parameter is unknown.
    """

    def __init__(self, values: Mapping[str, str], *known: str) -> None:
        for name in values:
            if name not in known:
                raise Problem(400, f"unknown parameter {name!r}: use {', '.join(known)}")
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter's text."""
        return self._values.get(name, default)

    def search(self) -> str:
        """Return the text to search for; empty if it is not given."""
        text = self.text("search").strip()
        if len(text) > MAX_TEXT_BYTES:
            raise Problem(400, f"search must have at most {MAX_TEXT_BYTES} characters, not {len(text)}")
        return text

    def choice(self, name: str, choices: Sequence[_T]) -> _T | None:
        """Return a parameter that has a fixed set of values; None if it is not given."""
        value = self._values.get(name)
        if value is None:
            return None
        if value not in choices:
            raise Problem(400, f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return cast("_T", value)

    def period(self) -> Window | None:
        """Return `period`; None if it is not given."""
        return self.choice("period", WINDOWS)

    def step(self, query: Query) -> Step | None:
        """Return `period`, which may also be a minute; None if it is not given.

        Minutes are made of the calls one by one, so the query may select at most a day.
        """
        step = self.choice("period", STEPS)
        if step == "minute":
            until = time.time() if query.until is None else query.until
            if query.since is None or until - query.since > DAY + _SLACK_SECONDS:
                raise Problem(400, "period=minute needs since or window, and at most a day until `until`")
        return step

    def names(self, name: str) -> list[str]:
        """Return the names in a comma-separated list."""
        return [part.strip() for part in self.text(name).split(",") if part.strip()]

    def integer(self, name: str, at_most: int) -> int | None:
        """Return a positive integer; None if it is not given."""
        if name not in self._values:
            return None
        value = self._values[name]
        if not (value.isascii() and value.isdecimal()) or not 1 <= int(value[:20]) <= at_most:
            raise Problem(400, f"{name} must be an integer from 1 to {at_most}, not {value!r}")
        return int(value)

    def time(self, name: str) -> float | None:
        """Return a time, given as RFC 3339 or in Unix seconds, in Unix seconds; None if it is not given."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            moment = float(value)
        except ValueError:
            moment = self._rfc3339(name, value)
        if not 0 <= moment < END_OF_TIME or math.isnan(moment):
            raise Problem(400, f"{name} must be between the years 1970 and 9999, not {value!r}")
        return moment

    def _rfc3339(self, name: str, value: str) -> float:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise Problem(
                400, f"{name} must be a time such as 2026-01-31T12:00:00Z, or Unix seconds, not {value!r}"
            ) from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def query(self, **overrides: Any) -> Query:
        """Return the query that the parameters in `FILTERS` describe."""
        match = {name: value for name in SUMMED_BY if (value := self.text(name))}
        match |= self._labels()
        filters: dict[str, Any] = {
            "since": self._since(),
            "until": self.time("until"),
            "session": self.text("session") or None,
            "match": match,
        }
        return Query(**{**filters, **overrides})

    def _labels(self) -> dict[str, str]:
        """Return `label`: name:value, comma-separated. A comma of a text has a backslash before it."""
        labels = {}
        for part in filter(None, map(str.strip, _PART.findall(self.text("label")))):
            label = _LABEL.fullmatch(part)
            if label is None:
                raise Problem(400, f"label must be name:value, not {part!r}")
            name, value = (_ESCAPED.sub(r"\1", text) for text in label.groups())
            labels[name] = value
        return labels

    def _since(self) -> float | None:
        since = self.time("since")
        window = self.text("window")
        if not window:
            return since
        if since is not None:
            raise Problem(400, "window and since are mutually exclusive")
        try:
            since = time.time() - seconds(window)
        except ValueError as error:
            raise Problem(400, f"window: {error}") from None
        if since < 0:
            raise Problem(400, f"window must not reach back beyond the year 1970, unlike {window!r}")
        return since


def rfc3339(moment: float) -> str:
    """Return a moment, given in Unix seconds, as RFC 3339 in UTC to the millisecond."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
