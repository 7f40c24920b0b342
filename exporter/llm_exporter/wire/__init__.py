"""Wire readers: bytes of a provider's answer in, usage out, with no SDK imported."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from .anthropic import MessagesReader
from .framing import Framing, Nothing, framing_for
from .gemini import GenerateContentReader
from .openai import ChatReader, ResponsesReader
from .reading import Reader, Reading, text_length

__all__ = [
    "ChatReader",
    "Framing",
    "Nothing",
    "Reader",
    "Reading",
    "framing_for",
    "reader_for",
    "text_length",
]

_ROUTES: Final[tuple[tuple[re.Pattern[str], type[Reader]], ...]] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"(?:^|/)chat/completions$", ChatReader),
        (r"(?:^|/)responses$", ResponsesReader),
        (r"/v1/messages$", MessagesReader),
        (r":(?:generateContent|streamGenerateContent)$", GenerateContentReader),
    )
)
"""The end of the path tells what is asked for; what stands before it is the provider's or a gateway's."""


@lru_cache(maxsize=1024)  # an application uses few paths, again and again
def reader_for(method: str, url: str) -> type[Reader] | None:
    """Return the reader for the answer to a request, or None for a request that generates nothing.

    Args:
        method: the HTTP method.
        url: an absolute or relative URL.
    """
    if method.upper() != "POST":
        return None
    path = url.partition("?")[0]
    return next((reader for pattern, reader in _ROUTES if pattern.search(path)), None)
