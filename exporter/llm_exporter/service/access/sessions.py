"""Sessions of people who signed in to the live page with a token: a signed cookie, and nothing stored.

The cookie names the token and says when the session ends. The key of its signature is derived from the token.
So a session outlives a restart of the service, and ends when the token changes or is removed.
"""

from __future__ import annotations

import hmac
from typing import Final

SESSION_SECONDS: Final = 12 * 3600

_PURPOSE: Final = b"llm-exporter: session of the live page"


class SessionCookie:
    """The cookie's name and attributes.

    Scripts cannot read it, and browsers do not send it with requests of other sites:
    https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis

    Args:
        secure: Whether browsers reach the page over HTTPS only.
    """

    def __init__(self, *, secure: bool) -> None:
        # With the prefix, no other host of the same domain can set it.
        self.name: Final = "__Host-llm-exporter-session" if secure else "llm-exporter-session"
        self._attributes = "Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")

    def set(self, session: str) -> str:
        """Return the `Set-Cookie` header for a session."""
        return f"{self.name}={session}; Max-Age={SESSION_SECONDS}; {self._attributes}"

    def clear(self) -> str:
        """Return the `Set-Cookie` header that ends the session in the browser."""
        return f"{self.name}=; Max-Age=0; {self._attributes}"


def session_key(token: bytes) -> bytes:
    """Return the key that signs the sessions of a token."""
    return hmac.digest(token, _PURPOSE, "sha256")


def new_session(name: str, key: bytes, now: float) -> str:
    """Return the session of who signed in.

    Args:
        name: The name of the token, which has no colon.
        key: The key of the token.
        now: Unix seconds.
    """
    end = str(int(now) + SESSION_SECONDS)
    return f"{name}:{end}:{_signature(name, end, key)}"


def name_in(session: str) -> str:
    """Return the name of the token in a session, which is to be verified."""
    return session.partition(":")[0]


def is_valid(session: str, key: bytes, now: float) -> bool:
    """Return whether a session was signed with a key and has not ended."""
    name, _, rest = session.partition(":")
    end, _, signature = rest.partition(":")
    if not hmac.compare_digest(signature.encode(), _signature(name, end, key).encode()):
        return False
    # One that lasts longer was signed before the clock stepped back.
    return 0 < int(end) - now <= SESSION_SECONDS


def _signature(name: str, end: str, key: bytes) -> str:
    return hmac.digest(key, f"{name}:{end}".encode(), "sha256").hex()
