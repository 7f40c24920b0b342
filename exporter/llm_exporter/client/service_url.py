"""The URL of an exporter service, checked without loading an HTTP client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError

_EXAMPLE: Final = "http://127.0.0.1:9847"


@dataclass(frozen=True)
class ServiceUrl:
    """The parts of a service's URL. Its text has no password in it."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a trailing slash."""
    credentials: str = field(default="", repr=False)
    """The user and password for basic authentication, as `user:password`."""

    def __str__(self) -> str:
        """Return the URL without the credentials, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def check_url(url: str) -> ServiceUrl:
    """Return the parts of a service's URL.

    Raises:
        ConfigError: if it is not the URL of a service. The message contains no credentials.
    """
    scheme, separator, rest = url.partition("://")
    if "@" in rest.partition("/")[2] or ("@" in url and not separator):
        # A password may be in any part of such a URL.
        raise ConfigError("LLM_EXPORTER_URL: '@' and '/' in a user, password or path must be percent-encoded")
    credentials, _, address = rest.rpartition("@")
    shown = scheme + separator + address
    try:
        parts = urlsplit(shown)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError as error:
        raise ConfigError(f"LLM_EXPORTER_URL: {shown!r} is not a URL: {error}") from None
    sendable = parts.path.isascii() and shown.isprintable() and " " not in shown
    if parts.scheme not in ("http", "https") or not host or not sendable:
        raise ConfigError(f"LLM_EXPORTER_URL: {shown!r} is not the URL of a service, like {_EXAMPLE}")
    port = port or (443 if parts.scheme == "https" else 80)
    return ServiceUrl(parts.scheme, host, port, parts.path.rstrip("/"), unquote(credentials))
