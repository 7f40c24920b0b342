"""A stand-in for a provider's HTTP API, which sends the responses that a test prepares."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType


@dataclass
class Response:
    """An HTTP response."""

    body: bytes | list[bytes]
    """A list is sent with chunked transfer encoding, one chunk for each item."""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    before: dict[int, threading.Event] = field(default_factory=dict)
    """Events to wait for before sending the chunk with this index."""
    answer: Callable[[Request], bytes | Response] | None = None
    """Returns the body, in the place of `body` and gated by `before[0]`; or another response."""
    cut: bool = False
    """Whether to drop the connection after the last chunk instead of ending the body."""


@dataclass
class Request:
    """A request that the server received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Server:
    """An HTTP server on a loopback port and a separate thread, with prepared responses for each path.

    Args:
        port: a free one by default.
    """

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.requests: list[Request] = []
        self._responses: defaultdict[str, deque[Response]] = defaultdict(deque)
        self._streams: defaultdict[str, deque[Response]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted")

    def respond_with(self, suffix: str, *responses: Response) -> None:
        """Send these responses, in order, to requests whose path ends with `suffix`; repeat the last one."""
        self._responses[suffix].extend(responses)

    def stream_with(self, suffix: str, *responses: Response) -> None:
        """Do the same as `respond_with`, but only for requests whose body or path asks for a stream."""
        self._streams[suffix].extend(responses)

    def __enter__(self) -> Server:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", self._port), self._loop
        ).result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        async def end() -> None:
            self._server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._serve(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(Request(method, target, headers, body))
        wants_stream = b'"stream":true' in body.replace(b" ", b"") or ":stream" in target
        response = self._response_for(target.partition("?")[0], wants_stream=wants_stream)
        if response.answer:
            answer = response.answer(self.requests[-1])
            if isinstance(answer, Response):
                response = answer
            else:
                response = replace(response, body=[answer] if response.before else answer)
        await self._send(response, writer)
        return not response.cut

    def _response_for(self, path: str, *, wants_stream: bool) -> Response:
        prepared = (
            [*self._streams.items(), *self._responses.items()] if wants_stream else self._responses.items()
        )
        for suffix, responses in prepared:
            if path.endswith(suffix):
                return responses.popleft() if len(responses) > 1 else responses[0]
        return Response(b'{"error": {"message": "no response prepared"}}', status=421)

    async def _send(self, response: Response, writer: asyncio.StreamWriter) -> None:
        chunked = isinstance(response.body, list)
        headers = {"content-type": response.content_type, **response.headers}
        headers |= (
            {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(response.body))}
        )
        writer.write(f"HTTP/1.1 {response.status} X\r\n".encode())
        writer.write("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
        if isinstance(response.body, bytes):
            writer.write(response.body)
        else:
            for index, chunk in enumerate(response.body):
                if gate := response.before.get(index):
                    await writer.drain()
                    await asyncio.to_thread(gate.wait, 30)
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if not response.cut:
                writer.write(b"0\r\n\r\n")
        await writer.drain()


def sse(*events: str, kinds: bool = False) -> list[bytes]:
    """Return server-sent events with this JSON, one chunk each; `kinds` adds the `event:` lines."""
    chunks = []
    for data in events:
        kind = data.split('"type": "', 1)[1].partition('"')[0] if kinds else ""
        chunks.append((f"event: {kind}\n" if kinds else "").encode() + f"data: {data}\n\n".encode())
    return chunks
