"""A stand-in for a provider's API: any method of an SDK gets a response of the type that it promises.

The tests of the SDKs' resources expect a server that follows the OpenAPI description, which the source
archives do not contain. They do contain `api.md` files, which list the route and the type of each method.
"""

from __future__ import annotations

import importlib
import json
import re
import types
import typing
from collections.abc import Mapping
from datetime import date, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple

import pydantic
import typing_extensions

_METHOD: Final = re.compile(
    r'<code title="(?P<method>\w+) (?P<path>[^"]+)">.*?'
    r'-> (?:<a href="\./src/(?P<module>[^"]+)\.py">)?(?P<type>[\w\[\], ]+)'
)
_MAX_DEPTH: Final = 4
"""How deep optional fields are filled in."""
_SIMPLE: Final[Mapping[object, object]] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    bytes: "text",
    datetime: "2026-01-01T00:00:00Z",
    date: "2026-01-01",
    object: {},
    Any: {},
    dict: {},
    list: [],
}
_UNIONS: Final = (typing.Union, types.UnionType)


class Route(NamedTuple):
    """A method of the API, and the body of its response."""

    method: str
    path: re.Pattern[str]
    query: str
    """What the query contains: the beta methods of anthropic share their paths with others."""
    content_type: str
    body: bytes


def routes(package: str, api: str) -> list[Route]:
    """Return the routes that an SDK's `api.md` files list, those with the fewest parameters first.

    Args:
        package: the SDK's package.
        api: the text of these files.
    """
    found: dict[tuple[str, str], tuple[str, bytes]] = {}
    for match in _METHOD.finditer(api):
        key = (match["method"].upper(), match["path"])
        found.setdefault(key, _response(package, match["module"], match["type"]))
    ordered = sorted(found.items(), key=lambda item: (item[0][1].count("{"), "?" not in item[0][1]))
    return [_route(method, path, *response) for (method, path), response in ordered]


def _route(method: str, path: str, content_type: str, body: bytes) -> Route:
    path, _, query = path.partition("?")
    return Route(method, _pattern(path), query, content_type, body)


def _pattern(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{\w+\}", path)
    return re.compile("[^/]+".join(re.escape(part) for part in parts))


def _response(package: str, module: str | None, name: str) -> tuple[str, bytes]:
    if "Binary" in name:
        return "application/octet-stream", b"bytes"
    type_ = _resolve(package, module, name.strip())
    return "application/json", b"" if type_ is None else json.dumps(sample(type_)).encode()


def _resolve(package: str, module: str | None, name: str) -> Any:
    """Return the type that `api.md` names, `object` for one that it does not say where to find."""
    container, _, item = name.rstrip("]").partition("[")
    if item:
        pages = importlib.import_module(f"{package}.pagination")
        if not hasattr(pages, container):
            return object
        return getattr(pages, container)[_resolve(package, module, item)]
    if name == "None":
        return None
    if module is None:
        return object
    return getattr(importlib.import_module(module.replace("/", ".")), name, object)


@cache
def sample(type_: Any) -> Any:
    """Return JSON data that is valid for a type: with all optional fields if possible, else without them."""
    full = _make(type_, _MAX_DEPTH)
    try:
        pydantic.TypeAdapter(type_).validate_python(full, strict=False)
    except (pydantic.ValidationError, pydantic.PydanticUserError):
        return _make(type_, 0)
    return full


def _make(type_: Any, depth: int) -> Any:
    while isinstance(type_, typing_extensions.TypeAliasType):
        type_ = type_.__value__
    origin, arguments = typing.get_origin(type_), typing.get_args(type_)
    if isinstance(type_, type) and issubclass(type_, pydantic.BaseModel):
        return {
            field.alias or name: _make(field.annotation, depth - 1)
            for name, field in type_.model_fields.items()
            if field.is_required() or depth > 0
        }
    if origin is typing.Literal:
        return arguments[0]
    if origin is list and depth > 0:
        return [_make(arguments[0], depth - 1)]
    if origin is typing.Annotated or (origin in _UNIONS and (depth > 0 or type(None) not in arguments)):
        return _make(arguments[0], depth)
    return _SIMPLE.get(origin or type_)


class StandIn:
    """A server on a loopback port, which ends with its context.

    Args:
        package: the SDK's package.
        sources: the directory with the `api.md` files.
    """

    def __init__(self, package: str, sources: Path) -> None:
        known = routes(package, "\n".join(path.read_text() for path in sorted(sources.rglob("api.md"))))

        class Handler(_Handler):
            routes = known

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> StandIn:
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet
    routes: list[Route]

    def _respond(self) -> None:
        request = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        for route in self.routes:
            if route.method == self.command and route.query in query and route.path.fullmatch(path):
                streamed = b'"stream":true' in request.replace(b" ", b"")
                body = b"data: %b\n\n" % route.body if streamed else route.body
                self._send(200, "text/event-stream" if streamed else route.content_type, body)
                return
        self._send(404, "application/json", b'{"error": {"message": "no such route"}}')

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Log nothing."""
