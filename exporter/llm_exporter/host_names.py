"""Host names and addresses: which of them an attacker can have, and which only this machine can reach.

DNS rebinding: the attacker's name resolves to the address of a server on the user's machine, so that a
browser takes the server for a part of the attacker's site. The header `Host` then has the attacker's name.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_RESERVED: Final = (".localhost", ".internal")
"""Nobody can register a name below these: RFC 6761 reserves the first, ICANN the second."""


def name_and_port(host: str) -> tuple[str, str]:
    """Split a `Host` header into the name or address, in lower case and without brackets, and the port.

    The port is empty if there is none.
    """
    host = host.strip().lower()
    if host.startswith("["):
        name, _, rest = host[1:].partition("]")
        return name, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name.removesuffix("."), port


def is_registrable(name: str) -> bool:
    """Return whether somebody can register a name.

    Not an IP address, nor a name without a dot, such as that of a container, nor one below `localhost` or
    `internal`.
    """
    return not ("." not in name or name.endswith(_RESERVED) or _is_address(name))


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an IP address, which may have a zone such as `%eth0`."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
