"""Find the provider that a client talks to, by its genai-prices id."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from ..forking import late_import
from .endpoint import REPORT_USD, Endpoint
from .names import is_local_server

_BY_HOST: Final = tuple(
    (re.compile(pattern), provider)
    for pattern, provider in (
        # https://developers.openai.com/api/docs/guides/data-residency
        (r"^(?:(?P<region>[a-z]{2})\.)?api\.openai\.com$", "openai"),
        (r"^api\.anthropic\.com$", "anthropic"),
        (r"^generativelanguage\.googleapis\.com$", "google"),
        # https://docs.cloud.google.com/gemini-enterprise-agent-platform/resources/locations
        (r"^(?:(?P<region>[a-z0-9-]+)-)?aiplatform\.googleapis\.com$", "google"),
        (r"^aiplatform\.(?P<region>[a-z0-9-]+)\.rep\.googleapis\.com$", "google"),
        # https://docs.x.ai/developers/advanced-api-usage/regions
        (r"^(?P<region>[a-z0-9-]+)\.api\.x\.ai$", "x-ai"),
        # https://docs.aws.amazon.com/general/latest/gr/bedrock.html
        (
            r"(?:^|\.)bedrock-[a-z-]+\.(?P<region>[a-z0-9-]+)\.(?:vpce\.)?(?:amazonaws\.com(?:\.cn)?|api\.aws)$",
            "aws",
        ),
        # Anthropic's own service, billed by AWS at Anthropic's prices:
        # https://platform.claude.com/docs/en/build-with-claude/claude-platform-on-aws
        (r"^aws-external-anthropic\.[a-z0-9-]+\.api\.aws$", "anthropic"),
        # https://learn.microsoft.com/azure/azure-government/compare-azure-government-global-azure
        (r"\.(?:openai|cognitiveservices)\.azure\.(?:com|(?P<region>us|cn))$", "azure"),
        # https://docs.together.ai/docs/serverless/geo-specific-inference
        (r"^(?:(?P<region>[a-z]{2})-)?api\.together\.(?:ai|xyz)$", "together"),
        # https://docs.mistral.ai/inference/regional-inference
        (r"^api\.(?P<region>[a-z]{2})\.mistral\.ai$", "mistral"),
        (r"^codestral\.mistral\.ai$", "mistral"),  # https://docs.mistral.ai/capabilities/code_generation
        (r"^ai-gateway\.vercel\.sh$", "vercel"),  # https://vercel.com/docs/ai-gateway
    )
)
"""Hosts that we know without genai-prices: the usual ones, so that no caller waits for its import, and some
that it does not know. The group `region` is the region that the host names."""

_LOCATION: Final = re.compile(r"/locations/([a-z0-9-]+)(?:/|$)")
"""The location in the path of Vertex AI, where the host names none."""

_BY_PORT: Final = {11434: "ollama"}
"""Ports that only one server uses: https://docs.ollama.com/faq. A server on port 8000 or 8080 may be
anything, even a gateway to a paid API."""

_LOCAL_SUFFIXES: Final = (".local", ".localhost", ".internal", ".lan", ".home.arpa")
"""The ends of host names of private networks: https://www.rfc-editor.org/rfc/rfc6762,
https://www.icann.org/en/board-activities-and-meetings/materials/approved-resolutions-special-meeting-of-the-icann-board-29-07-2024-en."""

_BY_CLIENT: Final = (
    ("Azure", "azure"),
    ("Foundry", "azure"),
    ("Bedrock", "aws"),
    ("AWS", "anthropic"),
    ("Vertex", "google"),
    ("GoogleCloud", "google"),
)
"""Providers by a part of the client's class name, for unknown URLs, such as a gateway's."""


class Providers:
    """Finds providers by URL.

    Args:
        configured: provider ids by `host` or `host:port`. They take precedence over all known URLs.
        priced: addresses that factors of `prices.factors` name, as `host` or `host:port`.
    """

    def __init__(
        self, configured: Mapping[str, str] = MappingProxyType({}), priced: Collection[str] = ()
    ) -> None:
        self._configured = configured
        self._priced = frozenset(priced)
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
        addresses = f"{host}:{port}", host
        endpoint = self._known(url, addresses) or Endpoint(
            next((provider for word, provider in _BY_CLIENT if word in client), sdk)
        )
        return endpoint._replace(
            is_local=_is_local(host),
            host=next((address for address in addresses if address in self._priced), ""),
        )

    def _known(self, url: str, addresses: tuple[str, str]) -> Endpoint | None:
        """Return the endpoint of an address that is configured or known; None for a gateway."""
        known = _by_host(addresses[1], url)
        for address in addresses:
            if provider := self._configured.get(address):
                if known is not None and known.provider == provider:
                    return known
                return Endpoint(provider, is_known=True, is_own=_is_own(provider, addresses[1]))
        if known is not None:
            return known
        port = addresses[0].rpartition(":")[2]
        if port.isdecimal() and int(port) in _BY_PORT:
            return Endpoint(_BY_PORT[int(port)], is_known=True, is_own=True)
        provider = _by_price_table(url)
        return Endpoint(provider, is_known=True) if provider else None


def _by_host(host: str, url: str) -> Endpoint | None:
    for pattern, provider in _BY_HOST:
        if match := pattern.search(host):
            region = match.groupdict().get("region") or ""
            if not region and "aiplatform" in host:
                location = _LOCATION.search(url)
                region = location[1] if location else "global"
            return Endpoint(provider, region, is_known=True)
    return None


def _is_own(provider: str, host: str) -> bool:
    """Return whether a configured provider is a server on the user's own hardware."""
    if is_local_server(provider):
        return True
    return _is_local(host) and provider not in REPORT_USD and not _has_prices(provider)


def _has_prices(provider: str) -> bool:
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    return genai.has_provider(provider)


def _is_local(host: str) -> bool:
    """Return whether a host is the local machine or in a private network."""
    name = host.strip("[]")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return bool(name) and ("." not in name or name.endswith(_LOCAL_SUFFIXES))
    return address.is_loopback or address.is_private or address.is_link_local


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
