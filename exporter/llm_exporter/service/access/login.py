"""Sign in to the live page, and out."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..bodies import Bodies
from ..requests import Problem
from ..responses import json_response
from ..schemas import Session, SignIn
from .door import Access, holder_of
from .rights import Holder

_MAX_BODY: Final = 64 * 1024

_decode: Final = msgspec.json.Decoder(SignIn).decode


class Login:
    """The request handlers.

    Args:
        access: Who may make which request.
        bodies: Reads bodies.
    """

    def __init__(self, access: Access, bodies: Bodies) -> None:
        self._access = access
        self._bodies = bodies

    async def sign_in(self, request: Request) -> Response:
        """Begin a session, and return who has signed in."""
        async with self._bodies.decoded(request, _token_in, _MAX_BODY) as token:
            holder, cookie = self._access.sign_in(token, "read")
        response = json_response(_session(holder, signed_in=True))
        response.headers["set-cookie"] = cookie
        return response

    async def sign_out(self, request: Request) -> Response:
        """End the session of a browser."""
        return Response(status_code=204, headers={"set-cookie": self._access.sign_out()})

    async def session(self, request: Request) -> Response:
        """Return who makes the request."""
        return json_response(_session(holder_of(request), signed_in=self._access.is_signed_in(request)))


def _token_in(body: bytes) -> str:
    try:
        return _decode(body).token
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"invalid sign-in: {error}") from None


def _session(holder: Holder, *, signed_in: bool) -> Session:
    return Session(holder.name, sorted(holder.rights), signed_in)
