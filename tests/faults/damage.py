"""Random damage to bytes, the same in each run."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

_TOKENS: Final = (
    *(
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b"9" * 400,
        b'""',
        b"[]",
        b"{}",
        b"[" * 2000,
        b'{"a":' * 2000,
    ),
    *(
        b'"\\ud800"',
        b"\xff",
        b"\xed\xa0\x80",
        b"\x00",
        b"\r",
        b"\n\n",
        b"\r\n\r\n",
        b"data: ",
        b"event: error\n",
    ),
    *(b"data: [DONE]\n\n", b'"error":{"message":"x"}', b'"usage":', b'"choices":[]', b'"prompt_tokens":-5'),
)


def damaged(chance: random.Random, body: bytes, others: Sequence[bytes]) -> bytes:
    """Return a body with up to four changes, and sometimes without its end."""
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        at = chance.randrange(len(body) + 1)
        end = at + chance.choice((0, 1, chance.randrange(40)))
        body = body[:at] + _instead(chance, body[at:end], others) + body[end:]
    return body[: chance.randrange(len(body) + 1)] if chance.random() < 0.1 else body


def _instead(chance: random.Random, part: bytes, others: Sequence[bytes]) -> bytes:
    """Return what to put into the place of a part of a body."""
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(len(part))
    if kind == 1:
        return b""
    if kind == 2:
        return part * 2
    if kind == 3:
        return chance.choice(_TOKENS)
    other = chance.choice(others)
    begin = chance.randrange(len(other))
    return other[begin : begin + 200]
