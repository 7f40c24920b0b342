"""What a browser may send. A page of another site can make it send requests from where the user is.

Such a page cannot choose the headers `Host`, `Origin` and `Sec-Fetch-*`, so these tell whose request it is.
Programs other than browsers send no `Origin` and no `Sec-Fetch-*`.

- `Host`, against DNS rebinding: the attacker's name resolves to the address of the service, so that a browser
  takes the service for a part of the attacker's site. `host_mistake` is for a service without authentication.
  With authentication, such a page gets nothing: it has no token, and the browser has no cookie or password
  for the attacker's name. So any name is fine then, such as that of a container or of a proxy.
- `Origin` and `Sec-Fetch-Site`, against requests that a page of another site sends (`origin_mistake`).
  Another port of the same machine is another site. Only a link to the service is fine: the page cannot see
  what the link leads to.

https://fetch.spec.whatwg.org/#origin-header and https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

HEADERS: Final = {
    # The page loads nothing from other hosts, and shows text from untrusted sources.
    "content-security-policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every response."""

_PRIVATE: Final = (".localhost", ".internal")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def host_mistake(hosts: Sequence[str], names: frozenset[str]) -> str:
    """Return why a request without authentication may be one of DNS rebinding; empty if it cannot be.

    An IP address cannot be: the browser is then on that address's own site. Nor can a name without a dot,
    such as that of a container, or one below `localhost` or `internal`: nobody can register them.

    Args:
        hosts: The values of the header `Host`. A request without it comes from no browser.
        names: Further names that are fine.
    """
    for host in hosts:
        name = _split(host)[0]
        if not (name in names or "." not in name or name.endswith(_PRIVATE) or _is_address(name)):
            return (
                f"the host name {name!r} is not one of this service: start it with"
                " --web.external-url and the URL that you use, or set up authentication"
            )
    return ""


def origin_mistake(method: str, headers: Headers, external_url: str) -> str:
    """Return why a request is refused as one that a page of another site sent; empty if it is not refused.

    Args:
        method: The method of the request.
        headers: The headers of the request.
        external_url: The URL that users reach the service at, if a proxy changes `Host`; else empty.
    """
    site = headers.get("sec-fetch-site", "none")
    is_link = (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    if site not in ("same-origin", "none") and not is_link:
        return f"a page of another site sent this request (Sec-Fetch-Site: {site})"
    for origin in headers.getlist("origin"):
        own = [*headers.getlist("host"), urlsplit(external_url).netloc]
        if not any(_is_origin_of(origin, host) for host in own if host):
            return f"a page of another site sent this request (Origin: {origin})"
    return ""


def _is_origin_of(origin: str, host: str) -> bool:
    """Return whether an origin has a host's name and port. A proxy may have changed the scheme."""
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS[parts.scheme]
        port = parts.port or default
    except (KeyError, ValueError):  # `null`, an extension, or no origin at all
        return False
    name, host_port = _split(host)
    return (parts.hostname or "", str(port)) == (name, host_port or str(default))


def _split(host: str) -> tuple[str, str]:
    """Return the name or address, without brackets, and the port, if there is one."""
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name.removesuffix("."), port


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
