"""A local stand-in for the providers, which the official SDKs cannot tell from the real ones.

    with Provider() as provider:
        client = OpenAI(base_url=f"{provider.url}/v1", api_key="any")

It speaks OpenAI's chat completions and responses, Anthropic's messages and Gemini's generateContent, plain
and streamed, with the providers' pace, caches, rate-limit headers and, now and then, troubles.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .answers import Answer, Author, Refusal, Trouble
from .dialects import Chat, Dialect, Gemini, Json, Messages, Quota, Responses

RETRY_AFTER: Final = 1.0
"""Seconds at full pace that a rate-limited caller is told to wait."""
_REMEMBERED_ANSWERS: Final = 1_000
_NAP: Final = 0.05

Endpoint = Callable[[Request], Awaitable[Response]]


class Provider:
    """The stand-in, served on a free port of 127.0.0.1 by a thread of its own while the `with` block lasts.

    Args:
        speed: how many times as fast as the real providers it answers.
        rate_limited_every: one of so many requests in a wire format is refused with HTTP 429; 0 is none.
        overloaded_every: likewise, with HTTP 503 or Anthropic's 529.
    """

    def __init__(self, *, speed: float = 1.0, rate_limited_every: int = 0, overloaded_every: int = 0) -> None:
        self.answers: deque[Answer] = deque(maxlen=_REMEMBERED_ANSWERS)
        """The latest answers that were begun, oldest first: what any meter of them should find."""
        self._speed = speed
        self._troubles: dict[Trouble, int] = {
            "rate_limited": rate_limited_every,
            "overloaded": overloaded_every,
        }
        self._author = Author()
        self._hurried = False
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app(),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )

    def __enter__(self) -> Self:
        # Listening already, so that no caller comes too early for the thread.
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url: str = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="stand-in", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.hurry()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def hurry(self) -> None:
        """Take no more time over anything, so that who waits for an answer has it at once."""
        self._hurried = True

    def _app(self) -> Starlette:
        requests, tokens = Quota(10_000), Quota(2_000_000)
        gemini = self._endpoint(Gemini(Quota(2_000), Quota(4_000_000)))
        endpoints = {
            "/v1/chat/completions": self._endpoint(Chat(requests, tokens)),
            "/v1/responses": self._endpoint(Responses(requests, tokens)),
            "/v1/messages": self._endpoint(Messages(Quota(4_000), Quota(2_400_000))),
            "/{version}/models/{model}:generateContent": gemini,
            "/{version}/models/{model}:streamGenerateContent": gemini,
        }
        return Starlette(routes=[Route(path, each, methods=["POST"]) for path, each in endpoints.items()])

    def _endpoint(self, dialect: Dialect) -> Endpoint:
        """Return what serves one wire format, with its own count of requests."""
        number = 0

        async def serve(request: Request) -> Response:
            nonlocal number
            number += 1
            body: Json = await request.json() | request.path_params
            question = dialect.question(body)
            dialect.requests.take(1)
            try:
                self._maybe_refuse(number, question.model)
                answer = self._author.answer(question)
            except Refusal as refusal:
                return self._refuse(dialect, refusal)
            dialect.tokens.take(answer.prompt + answer.generated)
            self.answers.append(answer)
            if body.get("stream") or request.url.path.endswith(":streamGenerateContent"):
                events = self._paced(dialect, answer, body)
                return StreamingResponse(events, media_type="text/event-stream", headers=dialect.headers())
            await self._take(answer.first_token_after + answer.generated_in)
            return JSONResponse(dialect.body(answer), headers=dialect.headers())

        return serve

    def _maybe_refuse(self, number: int, model: str) -> None:
        for trouble, every in self._troubles.items():
            if every and number % every == 0:
                raise Refusal(trouble, model)

    def _refuse(self, dialect: Dialect, refusal: Refusal) -> Response:
        headers = dialect.headers()
        if refusal.why == "rate_limited":
            headers |= dialect.retry_headers(RETRY_AFTER / self._speed)
        return JSONResponse(dialect.refusal(refusal), dialect.statuses[refusal.why], headers)

    async def _paced(self, dialect: Dialect, answer: Answer, request: Json) -> AsyncIterator[str]:
        events = list(dialect.events(answer, request))
        await self._take(answer.first_token_after)
        for event in events:
            yield event
            await self._take(answer.generated_in / len(events))

    async def _take(self, seconds: float) -> None:
        """Let so many seconds pass, at our speed."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds / self._speed
        while not self._hurried and (left := until - clock()) > 0:  # noqa: ASYNC110  # hurried by another thread
            await asyncio.sleep(min(left, _NAP))
