"""Which provider a client talks to, in genai-prices' ids."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from genai_prices import data_snapshot

_BY_CLIENT: Final = (
    ("Azure", "azure"),
    ("Foundry", "azure"),
    ("Bedrock", "aws"),
    ("AWS", "aws"),
    ("Vertex", "google"),
    ("GoogleCloud", "google"),
)
"""What a client's class name tells when its URL tells nothing, as behind a gateway."""


@lru_cache(maxsize=1024)  # an application has few clients, and calls them often
def provider_of(base_url: str, client: str, sdk: str) -> str:
    """Return the provider id of a client.

    A URL that is no provider's own is taken for a gateway to the provider whose SDK is used.

    Args:
        base_url: the URL that the client sends to.
        client: the client's class name.
        sdk: the provider whose SDK it is.
    """
    try:
        return data_snapshot.get_snapshot().find_provider(None, None, base_url).id
    except LookupError:
        return next((provider for word, provider in _BY_CLIENT if word in client), sdk)
