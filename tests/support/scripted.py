"""A stand-in for a paid API that answers exactly what a test tells it to, chunk by chunk."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Response:
    """One HTTP answer."""

    body: bytes | list[bytes]
    """A list is sent with chunked encoding, a chunk for each piece."""
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    before: dict[int, threading.Event] = field(default_factory=dict)
    """Wait for an event before the chunk of this index is sent."""
    cut: bool = False
    """Drop the connection after the last chunk instead of ending the body."""


@dataclass
class Request:
    """What the server was asked."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Serves on a loopback port, on a thread of its own: each path what was said of it, in order."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self._answers: defaultdict[str, deque[Response]] = defaultdict(deque)
        self._streams: defaultdict[str, deque[Response]] = defaultdict(deque)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted")

    def respond_with(self, suffix: str, *answers: Response) -> None:
        """Give these answers, in order, to requests for paths that end so; the last one again and again."""
        self._answers[suffix].extend(answers)

    def stream_with(self, suffix: str, *answers: Response) -> None:
        """As `says`, for requests that ask for a stream in their body or path."""
        self._streams[suffix].extend(answers)

    def __enter__(self) -> Server:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._connected, "127.0.0.1", 0), self._loop
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
        asks_for_stream = b'"stream":true' in body.replace(b" ", b"") or ":stream" in target
        answer = self._answer_for(target.partition("?")[0], asks_for_stream=asks_for_stream)
        await self._send(answer, writer)
        return not answer.cut

    def _answer_for(self, path: str, *, asks_for_stream: bool) -> Response:
        said = [*self._streams.items(), *self._answers.items()] if asks_for_stream else self._answers.items()
        for suffix, answers in said:
            if path.endswith(suffix):
                return answers.popleft() if len(answers) > 1 else answers[0]
        return Response(b'{"error": {"message": "not scripted"}}', status=421)

    async def _send(self, answer: Response, writer: asyncio.StreamWriter) -> None:
        chunked = isinstance(answer.body, list)
        headers = {"content-type": answer.content_type, **answer.headers}
        headers |= {"transfer-encoding": "chunked"} if chunked else {"content-length": str(len(answer.body))}
        writer.write(f"HTTP/1.1 {answer.status} X\r\n".encode())
        writer.write("".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode() + b"\r\n")
        if isinstance(answer.body, bytes):
            writer.write(answer.body)
        else:
            for index, chunk in enumerate(answer.body):
                if gate := answer.before.get(index):
                    await writer.drain()
                    await asyncio.to_thread(gate.wait, 30)
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            if not answer.cut:
                writer.write(b"0\r\n\r\n")
        await writer.drain()


def sse(*events: str, kinds: bool = False) -> list[bytes]:
    """Return server-sent events, a chunk for each, from their JSON; `kinds` adds the `event:` lines."""
    chunks = []
    for data in events:
        kind = data.split('"type": "', 1)[1].partition('"')[0] if kinds else ""
        chunks.append((f"event: {kind}\n" if kinds else "").encode() + f"data: {data}\n\n".encode())
    return chunks
