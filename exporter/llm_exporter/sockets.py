"""Sockets of the operating system, whatever gevent or eventlet has replaced.

The threads that talk to the service or serve `/metrics` are real ones. A patched socket would start an event
loop on each of them, and two that start at the same time can wait for each other's import locks for ever.
Both libraries replace attributes of the modules `socket` and `ssl`, so this module runs these modules again.
"""

from __future__ import annotations

import builtins
import http.client
import importlib
import sys
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

if TYPE_CHECKING:
    import socket
    import ssl


def _copy(name: str, **imports: ModuleType) -> Any:
    """Run a module of the standard library again.

    Args:
        name: the module's name.
        imports: the modules that it gets when it imports them by these names.
    """

    def load(wanted: str, *arguments: Any, **options: Any) -> ModuleType:
        return imports.get(wanted) or builtins.__import__(wanted, *arguments, **options)

    spec = find_spec(name)
    # The loaders of the standard library, also those of frozen programs and zip files, all have the code.
    code = spec.loader.get_code(name)  # type: ignore[union-attr]
    copy = ModuleType(f"{__name__}.{name}")
    copy.__dict__["__builtins__"] = {**vars(builtins), "__import__": load}
    sys.modules[copy.__name__] = copy  # where the module's enumerations look for its constants
    exec(code, copy.__dict__)  # noqa: S102
    return copy


_socket: Final = _copy("socket")


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: the address to listen on; empty for all. `::` is all of IPv4, too, where the system can do so.
        port: the TCP port; 0 for any free one.
        backlog: how many connections may wait to be accepted.

    Raises:
        OSError: if it cannot listen on the address.
    """
    found = _socket.getaddrinfo(host or None, port, type=_socket.SOCK_STREAM, flags=_socket.AI_PASSIVE)
    family = found[0][0]
    dual = family == _socket.AF_INET6 and _socket.has_dualstack_ipv6()
    listening: socket.socket = _socket.create_server(
        (host, port), family=family, backlog=backlog, dualstack_ipv6=dual
    )
    return listening


def server_tls() -> ssl.SSLContext:
    """Return a context for a server, which works even if the library replaces `ssl` afterwards."""
    context: ssl.SSLContext = _private_ssl().SSLContext(_private_ssl().PROTOCOL_TLS_SERVER)
    return context


def default_tls() -> ssl.SSLContext:
    """Return a context that verifies certificates, as `ssl.create_default_context()`."""
    # Without such a library the process's own module is used, in which `truststore` may have its own context.
    is_patched = sys.modules.keys() & {"gevent", "eventlet"}
    module = _private_ssl() if is_patched else importlib.import_module("ssl")
    context: ssl.SSLContext = module.create_default_context()
    context.sslsocket_class = _private_ssl().SSLSocket  # one of `ssl` fails if the module is patched later
    return context


@cache
def _private_ssl() -> Any:
    return _copy("ssl", socket=_socket)


class HTTPConnection(http.client.HTTPConnection):
    """As `http.client.HTTPConnection`, and with a TLS context as `http.client.HTTPSConnection`."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(host, port)
        self._tls = tls

    @override
    def connect(self) -> None:
        """Connect to the host."""
        self.sock = _socket.create_connection((self.host, self.port), self.timeout)
        self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)
