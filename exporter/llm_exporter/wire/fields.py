"""Helpers that read JSON fields of any type without raising, and decoders that skip unused fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ..call import TokenType
from .error_kinds import kind_of_code

Json = dict[str, Any]
T = TypeVar("T")

MAX_COUNT: Final = 10**12
"""The largest credible count. A larger one is corrupt and must not reach a counter."""


Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] | None
"""The type of a token count in an ordinary response."""
Zero = Literal[0] | None
"""The type of a count that only unusual responses have."""


def count(value: object) -> int:
    """Return a token count, or 0 if the value is not one."""
    # Nearly every value is a plain integer or missing, and every response has a dozen.
    if type(value) is int or type(value) is float:
        return int(value) if 0 < value <= MAX_COUNT else 0  # NaN compares false
    return 0


def amount(value: object) -> float | None:
    """Return an amount of money, audio or time, or None if the value is not one."""
    if type(value) is int or type(value) is float:
        return float(value) if 0 <= value <= MAX_COUNT else None
    return None


def first_count(body: Json, *names: str) -> int:
    """Return the first nonzero count among alternative field names, or 0."""
    for name in names:
        if found := count(body.get(name)):
            return found
    return 0


def mapping(value: object) -> Json:
    """Return a JSON object, or an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return a JSON array, or an empty one for any other value."""
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    """Return a JSON string, or an empty one for any other value."""
    return value if isinstance(value, str) else ""


def split(total: int, **parts: int) -> dict[str, int]:
    """Split a total into named parts and a `rest`.

    The details that providers send need not add up to their total. The total wins: the parts never exceed it.
    """
    for name, part in parts.items():
        if part > total:
            parts[name] = total
        total -= parts[name]
    parts["rest"] = total
    return parts


def without_zeros(tokens: dict[TokenType, int]) -> dict[TokenType, int]:
    """Return only the token types with a nonzero count."""
    return {kind: number for kind, number in tokens.items() if number}


_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NOT_A_NUMBER: Final = re.compile(rb"(?<=[:\[,\s])(?:NaN|-?Infinity)(?=[,\]}\s])")


def decoder(wanted: type[T]) -> Callable[[bytes], T]:
    """Return a function that decodes the fields of a struct and skips all others.

    Like the SDKs, and unlike the JSON standard, it accepts NaN and unpaired surrogates, which occur when a
    character is split between two deltas. Neither affects a count.
    """
    decode = msgspec.json.Decoder(wanted).decode

    def lenient(data: bytes) -> T:
        try:
            return decode(data)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return decode(_NOT_A_NUMBER.sub(b"null", _SURROGATE.sub(b"?", data)))

    return lenient


def ordinary_decoder(wanted: type[T]) -> Callable[[bytes], T | None]:
    """Return a function that decodes ordinary responses, and returns None for any other, valid or not.

    Nearly all responses have the same few fields, which a struct decodes faster than a dict. Its counts have
    the type `Count`, and it forbids unknown fields: what it does not expect is left to the lenient `decoder`.
    """
    decode = msgspec.json.Decoder(wanted).decode

    def ordinary(data: bytes) -> T | None:
        try:
            return decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    return ordinary


def error_code(error: object) -> str | None:
    """Return the type, status, code or message of a provider's error object, or None if there is no error.

    It is the first of them that is known: OpenAI's type of a `rate_limit_exceeded` is `tokens` or `requests`.
    """
    if not error:
        return None
    details = mapping(error)
    codes = [str(details[name]) for name in ("type", "status", "code", "message") if details.get(name)]
    known = (code for code in codes if kind_of_code(code) != "unknown")
    return next(known, codes[0] if codes else str(error))
