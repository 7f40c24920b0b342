"""HTTP URLs that may contain a password, which no message shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class HttpUrl:
    """The parts of an HTTP URL. Its text has no password in it."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a trailing slash."""
    credentials: str = field(default="", repr=False)
    """The user and password for basic authentication, as `user:password`."""

    def __str__(self) -> str:
        """Return the URL without the credentials, the query and the fragment, for messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def without_credentials(url: str) -> str:
    """Return an HTTP URL that `parse_http_url` accepts without its user and password."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def parse_http_url(url: str) -> HttpUrl:
    """Return the parts of an HTTP URL.

    Raises:
        ValueError: It is not one. The message shows nothing of it, since any part may be that of a password.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _PORTS:
        raise ValueError("must begin with http:// or https://")
    if "@" in rest.partition("/")[2]:
        raise ValueError("'@' and '/' in a user, password or path must be percent-encoded")
    credentials, _, address = rest.rpartition("@")
    try:
        parts = urlsplit(f"{scheme}://{address}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        raise ValueError("must have a valid host and port") from None
    if not host:
        raise ValueError("must have a host")
    if not (parts.path.isascii() and address.isprintable() and " " not in address):
        raise ValueError("spaces and special characters in a path must be percent-encoded")
    return HttpUrl(scheme, host, port or _PORTS[scheme], parts.path.rstrip("/"), unquote(credentials))
