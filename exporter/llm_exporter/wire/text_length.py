"""The length of the text in a request or response, from which missing token counts are estimated."""

from __future__ import annotations

from typing import Final

_FIELDS_WITHOUT_TEXT: Final = frozenset(
    {
        "model",
        "role",
        "type",
        "id",
        "data",
        "url",
        "image_url",
        "file_data",
        "media_type",
        "mime_type",
        "signature",
        "cache_control",
        "ttl",
    }
)
"""Fields that hold no text that a model reads or writes."""


_CACHE_FIELDS: Final = frozenset({"cache_control", "ttl"})


_WITH_TEXT: Final = (str, list, dict)


def text_length(value: object, caches: list[object] | None = None) -> int:
    """Return the number of characters of text in a JSON value, excluding inline images and files.

    Args:
        value: the JSON value.
        caches: gets the values of the fields that ask for a cache: `cache_control` of Anthropic, `ttl` of
            OpenAI.
    """
    length = 0
    waiting = [value]
    for each in waiting:  # which grows meanwhile
        if isinstance(each, str):
            if not each.startswith("data:"):
                length += len(each)
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            for name, inner in each.items():
                if isinstance(inner, _WITH_TEXT):  # most fields of an SDK's request are not set
                    if name not in _FIELDS_WITHOUT_TEXT:
                        waiting.append(inner)
                    elif caches is not None and name in _CACHE_FIELDS:
                        caches.append(inner)
    return length
