"""Labels from the headers of an HTTP request, for the calls that are made for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Final

from ..bounds import clean_text
from .guard import guarded
from .inferred_labels import of_request

HEADERS: Final[Mapping[str, str]] = MappingProxyType({"x-llm-agent": "agent", "x-llm-phase": "phase"})
"""The headers that are read by default, and the labels that they are."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A name of a header: a token of RFC 9110."""


def names_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the labels by the names of headers in lower case.

    Raises:
        ValueError: if one is not the name of a header, or its label has no name.
    """
    for name, label in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"headers: {name!r} is not the name of an HTTP header")
        if not label or clean_text(label) != label:
            raise ValueError(f"headers: the label of {name!r} must have a name, not {label!r}")
    return {name.lower(): label for name, label in headers.items()}


def labels_in(headers: Iterable[tuple[str, bytes]]) -> Mapping[str, str]:
    """Return the labels of a request. Of headers for the same label, the first that is not empty counts.

    Args:
        headers: the labels that the headers are for, and their values.
    """
    return guarded("labels", _labels_in, headers) or {}


def _labels_in(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for label, value in headers:
        text = clean_text(value.decode(errors="replace").strip())
        if text and label not in labels:
            labels[label] = text
    return labels


@contextmanager
def during_request(labels: Mapping[str, str]) -> Iterator[None]:
    """Have the labels of a request in force."""
    token = of_request.set(labels)
    try:
        yield
    finally:
        with suppress(ValueError):  # an abandoned request is ended in another context
            of_request.reset(token)
