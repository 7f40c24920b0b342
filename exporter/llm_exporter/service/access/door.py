"""The way of a request to its handler: may it pass?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...config.model import Auth, Right
from ...errors import ConfigError
from ...web_config import WebConfig, credentials
from ..requests import Problem
from ..responses import problem_response
from .browsers import HEADERS, host_mistake, origin_mistake
from .rights import ANYONE, CERTIFICATE, Holder
from .sessions import SessionCookie
from .tokens import Tokens

_PROBES: Final = ("/-/healthy", "/-/ready")
"""Answer whatever the host name is: an orchestrator probes them by any address, and they tell nothing."""
_HOLDER: Final = "llm_exporter.holder"
_PASSWORDS: Final = ThreadPoolExecutor(1, "llm-exporter-passwords")
"""Checks passwords, which is slow on purpose: guesses keep no more than this thread busy."""
_RECHECK_SECONDS: Final = 5.0
"""How long a stream goes on at least before its credentials are checked again."""
_REALM: Final = 'realm="llm-exporter"'


class Access:
    """Who may make which request. Used on the event loop; `configure` may be called from any thread.

    Args:
        auth: The tokens.
        web: The users and the headers of responses, if there are any.
        external_url: The URL that users reach the service at; empty if it is that of the service itself.
        listens_on: The address that the service listens on.
        count_error: Is called when a token's file can no longer be used.
        count_failure: Is called when credentials are wrong, with their kind.
    """

    def __init__(
        self,
        auth: Auth,
        web: WebConfig | None,
        external_url: str,
        listens_on: str,
        count_error: Callable[[], object],
        *,
        count_failure: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._web = web
        self._users = web if web is not None and web.users else None
        self._certificates = web is not None and web.requires_certificate
        self._external_url = external_url
        self._names = frozenset(
            name.lower() for name in (listens_on, urlsplit(external_url).hostname or "") if name
        )
        self._count_error = count_error
        self._count_failure = count_failure
        self._cookie = SessionCookie(
            secure=external_url.startswith("https:") or (web is not None and web.ssl_context() is not None)
        )
        self._tokens = Tokens(auth, count_error)

    @property
    def required(self) -> bool:
        """Whether clients need authentication."""
        return self._needs_credentials or self._certificates

    @property
    def _needs_credentials(self) -> bool:
        """Whether requests need a token or a password, beside the certificate of their connection."""
        return bool(self._tokens) or self._users is not None

    def response_headers(self) -> dict[str, str]:
        """Return the headers of every response."""
        configured = self._web.headers if self._web is not None else {}
        return HEADERS | {name.lower(): value for name, value in configured.items()}

    def refuse_to_open(self, auth: Auth) -> None:
        """Refuse a new configuration that would let anyone in.

        Raises:
            ConfigError: There is authentication now, and there would be none.
        """
        if self.required and not (auth.tokens or self._users is not None or self._certificates):
            raise ConfigError("auth.tokens: the last token cannot go while the service runs: restart it")

    def configure(self, auth: Auth) -> None:
        """Replace the tokens."""
        self._tokens = Tokens(auth, self._count_error)

    def rate_problem(self) -> Problem | None:
        """Count a request; return its problem if the web configuration's `rate_limit` refuses it."""
        if self._web is None or self._web.within_rate_limit():
            return None
        return Problem(429, "too many requests: see rate_limit in the web configuration file")

    def browser_problem(self, method: str, path: str, headers: Headers) -> Problem | None:
        """Return the problem of a request that a page of another site makes a browser send, if it is one."""
        if not self.required and path not in _PROBES:
            mistake = host_mistake(headers.getlist("host"), self._names)
            if mistake:
                return Problem(421, mistake)
        mistake = origin_mistake(method, headers, self._external_url)
        return Problem(403, mistake) if mistake else None

    async def admit(self, request: Request, right: Right) -> Holder:
        """Return who makes a request.

        Raises:
            Problem: 401 if that is unknown, 403 if they lack the right.
        """
        if not self._needs_credentials:
            return CERTIFICATE if self._certificates else ANYONE
        kind, holder = await self._authenticated(request)
        if holder is None:
            if kind:
                self._count_failure(kind)
            raise self._unauthorized("unknown" if kind else "missing")
        self._check(holder, right)
        return holder

    def sign_in(self, token: str, right: Right) -> tuple[Holder, str]:
        """Return the holder of a token, and the `Set-Cookie` header of a new session.

        Raises:
            Problem: 401 if the token is unknown, 403 if it lacks the right, 409 if there are no tokens.
        """
        if not self._tokens:
            raise Problem(409, "the service has no tokens: nobody can sign in with one")
        found = self._tokens.sign_in(token.encode(), time.time())
        if found is None:
            self._count_failure("token")
            raise Problem(401, "the token is unknown", {"www-authenticate": f"Bearer {_REALM}"})
        holder, session = found
        self._check(holder, right)
        return holder, self._cookie.set(session)

    def sign_out(self) -> str:
        """Return the `Set-Cookie` header that ends a session."""
        return self._cookie.clear()

    def is_signed_in(self, request: Request) -> bool:
        """Return whether an admitted request was admitted by its cookie."""
        return self._needs_credentials and "authorization" not in request.headers

    @staticmethod
    def _check(holder: Holder, right: Right) -> None:
        if right not in holder.rights:
            raise Problem(403, f"{holder.name} lacks the right {right!r}")

    async def _authenticated(self, request: Request) -> tuple[str, Holder | None]:
        """Return the kind of the credentials, empty if there are none, and their holder if they are right."""
        authorization = request.headers.get("authorization", "")
        scheme, _, token = authorization.partition(" ")
        session = request.cookies.get(self._cookie.name, "")
        if scheme.lower() == "bearer":
            return "token", self._tokens.holder(token.strip().encode("latin-1"))
        if scheme.lower() == "basic":
            return "password", None if self._users is None else await _user(self._users, authorization)
        if not scheme and session:
            return "session", self._tokens.signed_in(session, time.time())
        return ("other" if scheme else ""), None

    def _unauthorized(self, what: str) -> Problem:
        use = ["a token (Authorization: Bearer …)"] if self._tokens else []
        challenges = [f"Bearer {_REALM}"]
        if self._users is not None:
            use.append("a user and password (Basic)")
            challenges.append(f"Basic {_REALM}")
        detail = f"the credentials are {what}: send {' or '.join(use)}"
        # In one header each: browsers do not find Basic behind another scheme.
        return Problem(401, detail, {"www-authenticate": challenges})


async def _user(web: WebConfig, authorization: str) -> Holder | None:
    """Return the holder of Basic credentials; None if they are wrong."""
    given = credentials(authorization)
    if given is None:
        return None
    known = web.knows(*given) or await asyncio.get_running_loop().run_in_executor(
        _PASSWORDS, web.check_password, *given
    )
    return Holder(f"user {given[0]}") if known else None


class Door:
    """Middleware in front of all routes: refuses what other sites send, and adds headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._access.response_headers().items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self._access.rate_problem() or self._access.browser_problem(
            scope["method"], scope["path"], Headers(scope=scope)
        )
        app = self._app if problem is None else problem_response(problem)
        await app(scope, receive, send_with_headers)


class Requires:
    """Middleware of one route: admits who has the right that the method requires.

    Args:
        app: The handler.
        access: Who has which right.
        rights: The right by method; None if the route is open.
    """

    def __init__(self, app: ASGIApp, access: Access, rights: Mapping[str, Right | None]) -> None:
        self._app = app
        self._access = access
        self._rights = {**rights, "HEAD": rights.get("GET")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it. End a stream soon after its credentials have become invalid."""
        right = self._rights[scope["method"]]
        if right is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        checked = time.monotonic()

        async def send_while_admitted(message: Message) -> None:
            nonlocal checked
            now = time.monotonic()
            if message["type"] == "http.response.start":
                checked = now
            elif now - checked >= _RECHECK_SECONDS and message.get("more_body"):
                checked = now
                try:
                    await self._access.admit(request, right)
                except Problem:
                    raise _StreamEndedError from None
            await send(message)

        scope[_HOLDER] = await self._access.admit(request, right)
        try:
            await self._app(scope, receive, send_while_admitted)
        except _StreamEndedError:
            await send({"type": "http.response.body", "body": b""})


class _StreamEndedError(Exception):
    """The credentials have become invalid. It is no `Problem`, for which there would be another response."""


def holder_of(request: Request) -> Holder:
    """Return who makes a request on a route that requires a right."""
    return cast("Holder", request.scope[_HOLDER])
