"""Requests whose response no reader takes. They are counted, because they may be paid."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from typing_extensions import override

from .reader import Reader

_WORD: Final = re.compile(r"[a-z_]+(?:[A-Z][a-z]+)*(?::[a-zA-Z]+)?|v\d\w*|google\.[\w.]+")
"""A path segment that is the same for every caller.

It is a word, a method after a colon, a version, or the name of one of Google's services.
"""
_COLLECTIONS: Final = frozenset({"deployments", "locations", "models", "projects", "tunedModels"})
"""Path segments before a name that the user may have chosen, even if the name is a word."""
_MAX_SEGMENTS: Final = 12  # Vertex AI has paths of nine


class UnreadReader(Reader):
    """Reads nothing."""

    operation = "unread"

    @override
    def may_carry_usage(self, data: bytes) -> bool:
        return False

    @override
    def read_body(self, data: bytes) -> None:
        pass

    @override
    def read_event(self, data: bytes) -> None:
        pass


def route_of(method: str, url: str) -> str:
    """Return the method and path of a request, with `{id}` for each segment that may name a user's object.

    Args:
        method: the HTTP method.
        url: an absolute or relative URL.
    """
    segments = [each for each in urlsplit(url).path.split("/") if each][:_MAX_SEGMENTS]
    path = "/".join(
        segment if _WORD.fullmatch(segment) and before not in _COLLECTIONS else _without_id(segment)
        for before, segment in zip(["", *segments], segments, strict=False)
    )
    return f"{method.upper()} /{path}"


def _without_id(segment: str) -> str:
    """Return `{id}`, with the method after a colon: Google's paths end in `models/gemini-2.5-pro:predict`."""
    name, colon, verb = segment.rpartition(":")
    return f"{{id}}:{verb}" if colon and name and verb.isalpha() else "{id}"
