"""Find the provider that a client talks to, by its genai-prices id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from ..forking import late_import

_BY_HOST: Final = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        (r"^api\.openai\.com$", "openai"),
        (r"^api\.anthropic\.com$", "anthropic"),
        (r"^(?:generativelanguage|(?:[a-z0-9-]+-)?aiplatform)\.googleapis\.com$", "google"),
        (r"\.api\.x\.ai$", "x-ai"),  # https://docs.x.ai/docs/key-information/regions
        # https://docs.aws.amazon.com/general/latest/gr/bedrock.html
        (r"(?:^|\.)bedrock-[a-z-]+\.[a-z0-9-]+\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$", "aws"),
        (r"^aws-external-anthropic\.[a-z0-9-]+\.api\.aws$", "aws"),
        # https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
        (r"\.(?:openai|cognitiveservices)\.azure\.(?:com|us|cn)$", "azure"),
        (r"^api\.together\.ai$", "together"),  # https://docs.together.ai/docs/openai-api-compatibility
        (r"^codestral\.mistral\.ai$", "mistral"),  # https://docs.mistral.ai/capabilities/code_generation
    )
)
"""Hosts that we know without genai-prices: the usual ones, so that no caller waits for its import, and some
that it does not know."""

_BY_PORT: Final = {11434: "ollama"}
"""Ports that only one server uses: https://docs.ollama.com/faq. A server on port 8000 or 8080 may be
anything, even a gateway to a paid API."""

_BY_CLIENT: Final = (
    ("Azure", "azure"),
    ("Foundry", "azure"),
    ("Bedrock", "aws"),
    ("AWS", "aws"),
    ("Vertex", "google"),
    ("GoogleCloud", "google"),
)
"""Providers by a part of the client's class name, for unknown URLs, such as a gateway's."""


class Endpoint(NamedTuple):
    """What the address of a client says about its calls."""

    provider: str
    """The provider's id."""
    region: str = ""
    """The region or data zone of the address, if it has one."""
    is_known: bool = False
    """Whether the address is known to be the provider's, or configured. If not, it is taken for a gateway."""
    is_local: bool = False
    """Whether the address is a loopback or private one."""


class Providers:
    """Finds providers by URL.

    Args:
        configured: provider ids by `host` or `host:port`. They take precedence over all known URLs.
    """

    def __init__(self, configured: Mapping[str, str] = MappingProxyType({})) -> None:
        self._configured = configured
        self.of = lru_cache(maxsize=1024)(self._of)  # an application has few clients, and calls them often
        """`_of`, cached."""

    def _of(self, url: str, client: str, sdk: str) -> Endpoint:
        """Return the endpoint that a client calls.

        An unknown URL is taken for a gateway to the provider of the SDK.

        Args:
            url: the client's base URL.
            client: the client's class name.
            sdk: the provider of the SDK.
        """
        host, port = _address(url)
        for address in (f"{host}:{port}", host):
            if provider := self._configured.get(address):
                return Endpoint(provider, is_known=True)
        if provider := _by_host(host) or _by_price_table(url):
            return Endpoint(provider, is_known=True)
        if port in _BY_PORT:
            return Endpoint(_BY_PORT[port], is_known=True)
        return Endpoint(next((provider for word, provider in _BY_CLIENT if word in client), sdk))


def _by_host(host: str) -> str | None:
    return next((provider for pattern, provider in _BY_HOST if pattern.search(host)), None)


def _by_price_table(url: str) -> str | None:
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    return genai.find_provider(url)


def _address(url: str) -> tuple[str, int | None]:
    """Return the host and port of a URL: the host in lower case, an IPv6 address in brackets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not a URL
        return "", None
    return f"[{host}]" if ":" in host else host, port
