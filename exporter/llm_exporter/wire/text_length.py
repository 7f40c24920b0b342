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
    }
)
"""Fields that hold no text that a model reads or writes."""


def text_length(value: object) -> int:
    """Return the number of characters of text in a JSON value, excluding inline images and files."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    length = 0
    if isinstance(value, dict):
        for name, each in value.items():
            if name not in _FIELDS_WITHOUT_TEXT:
                length += text_length(each)
    elif isinstance(value, list):
        for each in value:
            length += text_length(each)
    return length
