"""A local stand-in for the OpenAI, Anthropic and Gemini APIs.

    with Provider() as provider:
        client = OpenAI(base_url=f"{provider.url}/v1", api_key="any")

It serves OpenAI's chat completions and responses, Anthropic's messages and Gemini's generateContent, with and
without streaming. Speed, prompt caching and rate-limit headers resemble the real APIs. It can inject faults.
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

from .completions import Completion, Fault, Prompt, ProviderError, TextGenerator
from .wire_formats.anthropic import Messages
from .wire_formats.base import Json, Quota, WireFormat
from .wire_formats.gemini import GenerateContent
from .wire_formats.openai import ChatCompletions, Responses

RETRY_AFTER: Final = 1.0
"""Seconds after which a rate-limited client may retry, at normal speed."""
_KEPT_COMPLETIONS: Final = 1_000
_SLEEP_SECONDS: Final = 0.05
"""How long to sleep at most before checking whether to skip delays."""

Endpoint = Callable[[Request], Awaitable[Response]]


class Provider:
    """Serve the APIs on a free port of 127.0.0.1, from a background thread, inside the `with` block.

    Args:
        speed: how much faster than the real providers to respond.
        rate_limited_every: respond with HTTP 429 to every nth request of a wire format; 0 for never.
        overloaded_every: respond with HTTP 503, or Anthropic's 529, to every nth request; 0 for never.
    """

    def __init__(self, *, speed: float = 1.0, rate_limited_every: int = 0, overloaded_every: int = 0) -> None:
        self.completions: deque[Completion] = deque(maxlen=_KEPT_COMPLETIONS)
        """The latest completions, oldest first, to compare with what was metered."""
        self._speed = speed
        self._faults: dict[Fault, int] = {
            "rate_limited": rate_limited_every,
            "overloaded": overloaded_every,
        }
        self._generator = TextGenerator()
        self._skip_delays = False
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
        # Listen before the thread starts, so that early connections are accepted.
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
        self.skip_delays()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def skip_delays(self) -> None:
        """Stop simulating delays, so that pending responses finish immediately."""
        self._skip_delays = True

    def _app(self) -> Starlette:
        requests, tokens = Quota(10_000), Quota(2_000_000)
        generate_content = self._endpoint(GenerateContent(Quota(2_000), Quota(4_000_000)))
        endpoints = {
            "/v1/chat/completions": self._endpoint(ChatCompletions(requests, tokens)),
            "/v1/responses": self._endpoint(Responses(requests, tokens)),
            "/v1/messages": self._endpoint(Messages(Quota(4_000), Quota(2_400_000))),
            "/{version}/models/{model}:generateContent": generate_content,
            "/{version}/models/{model}:streamGenerateContent": generate_content,
        }
        return Starlette(routes=[Route(path, each, methods=["POST"]) for path, each in endpoints.items()])

    def _endpoint(self, wire_format: WireFormat) -> Endpoint:
        """Return the endpoint of a wire format, which counts its own requests."""
        number = 0

        async def serve(request: Request) -> Response:
            nonlocal number
            number += 1
            body: Json = await request.json() | request.path_params
            prompt = wire_format.prompt(body)
            wire_format.requests.use(1)
            try:
                self._inject_fault(number, prompt)
                completion = self._generator.complete(prompt)
            except ProviderError as error:
                return self._error(wire_format, error)
            wire_format.tokens.use(completion.input_tokens + completion.output_tokens)
            self.completions.append(completion)
            if body.get("stream") or request.url.path.endswith(":streamGenerateContent"):
                return StreamingResponse(
                    self._delayed_events(wire_format, completion, body),
                    media_type="text/event-stream",
                    headers=wire_format.headers(),
                )
            await self._delay(completion.time_to_first_token + completion.generation_time)
            return JSONResponse(wire_format.response(completion), headers=wire_format.headers())

        return serve

    def _inject_fault(self, number: int, prompt: Prompt) -> None:
        for fault, every in self._faults.items():
            if every and number % every == 0:
                raise ProviderError(fault, prompt.model)

    def _error(self, wire_format: WireFormat, error: ProviderError) -> Response:
        headers = wire_format.headers()
        if error.fault == "rate_limited":
            headers |= wire_format.retry_headers(RETRY_AFTER / self._speed)
        return JSONResponse(wire_format.error(error), wire_format.statuses[error.fault], headers)

    async def _delayed_events(
        self, wire_format: WireFormat, completion: Completion, request: Json
    ) -> AsyncIterator[str]:
        events = list(wire_format.events(completion, request))
        await self._delay(completion.time_to_first_token)
        for event in events:
            yield event
            await self._delay(completion.generation_time / len(events))

    async def _delay(self, seconds: float) -> None:
        """Wait a number of seconds, divided by the speed."""
        clock = asyncio.get_running_loop().time
        until = clock() + seconds / self._speed
        # Another thread sets `_skip_delays`, so this cannot wait for an asyncio.Event.
        while not self._skip_delays and (left := until - clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, _SLEEP_SECONDS))
