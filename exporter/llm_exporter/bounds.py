"""The bounds of what a call may hold, so that no sum overflows and no text outgrows a label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from .call import Call

MAX_TEXT_BYTES: Final = 256
"""The longest text of a call, in UTF-8."""
MAX_NUMBER: Final = 10**12
"""The largest number of a call. Sums of calls stay within 64-bit integers, and floats keep whole tokens."""
_MAX_TOTAL: Final = 10**14
"""The largest number that adds up several token types."""
_MAX_ENTRIES: Final = 100
"""The largest number of units or cost types of a call. Providers have about twenty."""
_END: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()
"""Periods in the last year would end outside of what `datetime` supports."""

_MAX_BITS: Final = 128
"""The bits of an integer that an error quotes."""

_HARMFUL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators and lone surrogates."""
_SHORT: Final = MAX_TEXT_BYTES // 4
"""The number of characters that always fit: none has more than four bytes."""
_TEXTS: Final = (
    "provider",
    "model",
    "operation",
    "requested_model",
    "service_tier",
    "speed",
    "region",
    "host",
    "budget",
    "route",
)
"""The fields of a call that hold any text."""


def mistake(call: Call) -> str:
    """Return why a call cannot be counted although its types are right; an empty string if it can be."""
    if not call.id or clean_text(call.id) != call.id:
        return f"id must have 1 to {MAX_TEXT_BYTES} bytes without control characters"
    return "" if _has_ordinary_numbers(call) else _wrong_number(call)


def _wrong_number(call: Call) -> str:
    """Return which number of a call is out of bounds; an empty string if none is."""
    for field, numbers, largest in (
        ("tokens", call.tokens, MAX_NUMBER),
        ("units", call.units, MAX_NUMBER),
        ("cost", call.cost, MAX_NUMBER),
        ("reported_costs", call.reported_costs, MAX_NUMBER),
        ("approximated", call.approximated, _MAX_TOTAL),
    ):
        if not numbers:
            continue
        if len(numbers) > _MAX_ENTRIES:
            return f"{field} must have at most {_MAX_ENTRIES} entries, not {len(numbers)}"
        for name, number in numbers.items():
            if not 0 <= number <= largest:
                return _out_of_bounds(f"{field}.{clean_text(name)}", number, largest)
    for name, number, largest in (
        ("duration", call.duration, MAX_NUMBER),
        ("time_to_first_token", call.time_to_first_token or 0.0, MAX_NUMBER),
        ("reported_cost", call.reported_cost or 0.0, MAX_NUMBER),
        ("unpriced_tokens", call.unpriced_tokens, _MAX_TOTAL),
    ):
        if not 0 <= number <= largest:
            return _out_of_bounds(name, number, largest)
    if not 0 <= call.started < _END:
        return f"started must be between the years 1970 and 9998, not {call.started}"
    return ""


def _has_ordinary_numbers(call: Call) -> bool:
    """Return whether all numbers of a call are within bounds for sure, because even their sum is."""
    numbers = [
        *call.tokens.values(),
        *call.units.values(),
        *call.cost.values(),
        *call.reported_costs.values(),
        *call.approximated.values(),
        call.duration,
        call.time_to_first_token or 0.0,
        call.reported_cost or 0.0,
        call.unpriced_tokens,
    ]
    # If one of them is not a number, neither is the sum. Integers too large for floats would raise in it.
    are_ordinary = len(numbers) <= _MAX_ENTRIES and min(numbers) >= 0 and max(numbers) <= MAX_NUMBER
    return are_ordinary and sum(numbers) <= MAX_NUMBER and 0 <= call.started < _END


def _out_of_bounds(name: str, number: float, largest: int) -> str:
    # Python refuses to write out an integer of thousands of digits, and nobody wants to read it.
    found: object = number
    if isinstance(number, int) and number.bit_length() > _MAX_BITS:
        found = f"an integer of {number.bit_length()} bits"
    return f"{name} must be between 0 and 10^{len(str(largest)) - 1}, not {found}"


def clean_text(value: str) -> str:
    """Return a text as it may be a label: up to 256 bytes, with `?` for control characters and surrogates."""
    if len(value) <= _SHORT and value.isprintable():
        return value
    harmless = _HARMFUL.sub("?", value[:MAX_TEXT_BYTES])
    return harmless.encode()[:MAX_TEXT_BYTES].decode(errors="ignore")


_TRACE_ID: Final = re.compile("[0-9a-f]{32}")


def clean_call(call: Call) -> None:
    """Clean every text of a call that may become a label, a column or a line.

    The rest is the id, which `mistake` checks, and fields with a fixed set of values.
    """
    if call.trace_id and not _TRACE_ID.fullmatch(call.trace_id):
        call.trace_id = ""
    texts = "".join(
        (
            call.provider,
            call.model,
            call.operation,
            call.requested_model,
            call.service_tier or "",
            call.speed or "",
            call.region,
            call.host,
            call.budget,
            call.route,
            *call.labels,
            *call.labels.values(),
            *call.units,
            *call.cost,
            *call.reported_costs,
        )
    )
    if len(texts) <= MAX_TEXT_BYTES and texts.isascii() and texts.isprintable():
        return  # most calls
    for field in _TEXTS:
        if text := getattr(call, field):
            setattr(call, field, clean_text(text))
    call.labels = {clean_text(name): clean_text(value) for name, value in call.labels.items()}
    call.units = _clean_names(call.units)
    call.cost = _clean_names(call.cost)
    call.reported_costs = _clean_names(call.reported_costs)


def _clean_names(numbers: Mapping[str, float]) -> dict[str, float]:
    cleaned: dict[str, float] = {}
    for name, number in numbers.items():
        clean = clean_text(name)
        cleaned[clean] = cleaned.get(clean, 0) + number
    return cleaned
