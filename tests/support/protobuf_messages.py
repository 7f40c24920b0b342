"""Decodes protobuf messages without their description."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

Fields = dict[int, list[Any]]
"""The values by field number: an int, a float or the bytes of a text or message."""


def fields(message: bytes) -> Fields:
    """Return the fields of a message.

    Raises:
        ValueError: if it is cut off or has a type of field that our metrics do not use.
    """
    found: Fields = defaultdict(list)
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        value: Any
        match key & 7:
            case 0:
                value, position = _varint(message, position)
            case 1:
                (value,) = struct.unpack_from("<d", message, position)
                position += 8
            case 2:
                length, position = _varint(message, position)
                value = message[position : position + length]
                position += length
            case other:
                raise ValueError(f"type {other}")
        found[key >> 3].append(value)
    if position != len(message):
        raise ValueError("cut off")
    return found


def delimited(stream: bytes) -> Iterator[Fields]:
    """Yield the fields of messages that each follow their length."""
    position = 0
    while position < len(stream):
        length, position = _varint(stream, position)
        yield fields(stream[position : position + length])
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[position]
        number |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return number, position
