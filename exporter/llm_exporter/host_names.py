"""Host names that an attacker can or cannot have.

DNS rebinding: the attacker's name resolves to the address of a server on the user's machine, so that a
browser takes the server for a part of the attacker's site. The header `Host` then has the attacker's name.
"""

from __future__ import annotations

import ipaddress


def name_in(host: str) -> str:
    """Return the name or address in a `Host` header, in lower case and without port and brackets."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def is_registrable(name: str) -> bool:
    """Return whether somebody can register a name.

    Not an IP address, nor a name without a dot, such as that of a container, nor one below `localhost`.
    """
    if "." not in name or name.endswith(".localhost"):
        return False
    return not _is_address(name)


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an IP address."""
    return ipaddress.ip_address(address).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
