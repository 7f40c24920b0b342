"""The URL of an exporter service, checked without loading an HTTP client."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import ConfigError


class ServiceUrl(NamedTuple):
    """The parts of a service's URL."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a trailing slash."""


def check_url(url: str) -> ServiceUrl:
    """Return the parts of a service's URL.

    Raises:
        ConfigError: if it is not the URL of a service.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"LLM_EXPORTER_URL: {url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"LLM_EXPORTER_URL: {url!r} is not the URL of a service, like http://127.0.0.1:9847"
        )
    port = port or (443 if parts.scheme == "https" else 80)
    return ServiceUrl(parts.scheme, host, port, parts.path.rstrip("/"))
