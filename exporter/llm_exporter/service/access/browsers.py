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

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from ...host_names import is_registrable, name_and_port

HEADERS: Final = {
    # What a browser got with a session must not outlive it.
    "cache-control": "no-store",
    # The page loads nothing from other hosts, and shows text from untrusted sources.
    "content-security-policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""Headers of every response."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def host_mistake(hosts: Sequence[str], names: frozenset[str]) -> str:
    """Return why a request without authentication may be one of DNS rebinding; empty if it cannot be.

    It cannot be if the name is one that nobody can register. The same goes for an IP address: the browser is
    then on that address's own site.

    Args:
        hosts: The values of the header `Host`. A request without it comes from no browser.
        names: Further names that are fine.
    """
    for host in hosts:
        name, _ = name_and_port(host)
        if is_registrable(name) and name not in names:
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
    name, host_port = name_and_port(host)
    return (parts.hostname or "", str(port)) == (name, host_port or str(default))
