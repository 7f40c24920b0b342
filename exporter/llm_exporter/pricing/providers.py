"""Which provider a client talks to, in genai-prices' ids."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from genai_prices import data_snapshot

_BY_HOST: Final = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        (r"\.api\.x\.ai$", "x-ai"),  # https://docs.x.ai/docs/key-information/regions
        # https://docs.aws.amazon.com/general/latest/gr/bedrock.html
        (r"(?:^|\.)bedrock-[a-z-]+\.[a-z0-9-]+\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$", "aws"),
        (r"^aws-external-anthropic\.[a-z0-9-]+\.api\.aws$", "aws"),
        # https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
        (r"\.(?:openai|cognitiveservices)\.azure\.(?:us|cn)$", "azure"),
        (r"^api\.together\.ai$", "together"),  # https://docs.together.ai/docs/openai-api-compatibility
        (r"^codestral\.mistral\.ai$", "mistral"),  # https://docs.mistral.ai/capabilities/code_generation
    )
)
"""Hosts of known providers that genai-prices does not know."""

_BY_PORT: Final = {11434: "ollama"}
"""Ports that one server alone is known by: https://docs.ollama.com/faq. What listens on 8000 or 8080 may be
anything, a gateway to a paid API too."""

_BY_CLIENT: Final = (
    ("Azure", "azure"),
    ("Foundry", "azure"),
    ("Bedrock", "aws"),
    ("AWS", "aws"),
    ("Vertex", "google"),
    ("GoogleCloud", "google"),
)
"""What a client's class name tells when its URL tells nothing, as behind a gateway."""


class Providers:
    """Knows providers by their URLs.

    Args:
        configured: provider ids by `host` or `host:port`, which go before anything that is known of a URL.
    """

    def __init__(self, configured: Mapping[str, str] = MappingProxyType({})) -> None:
        self._configured = configured
        self.of = lru_cache(maxsize=1024)(self._of)  # an application has few clients, and calls them often
        """`_of`, remembered."""

    def _of(self, url: str, client: str, sdk: str) -> str:
        """Return the provider id of a client.

        A URL that is no provider's own is taken for a gateway to the provider whose SDK is used.

        Args:
            url: where the client sends to.
            client: the client's class name.
            sdk: the provider whose SDK it is.
        """
        host, port = _address(url)
        for address in (f"{host}:{port}", host):
            if provider := self._configured.get(address):
                return provider
        try:
            return data_snapshot.get_snapshot().find_provider(None, None, url).id
        except LookupError:
            pass
        for pattern, provider in _BY_HOST:
            if pattern.search(host):
                return provider
        if port in _BY_PORT:
            return _BY_PORT[port]
        return next((provider for word, provider in _BY_CLIENT if word in client), sdk)


def _address(url: str) -> tuple[str, int | None]:
    """Return the host and port of a URL, the host in lower case, an IPv6 address in brackets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # no URL at all
        return "", None
    return f"[{host}]" if ":" in host else host, port
