"""The web configuration file: TLS, users with passwords, and headers of an HTTP server.

The format is that of Prometheus' exporter-toolkit:
https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import os
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

from . import tls
from .config.loading import Mistake, load_as
from .config.web_model import TlsServerConfig, WebFile
from .errors import ConfigError
from .log import log
from .threads import Lock

_MAX_PASSWORD: Final = 72
"""Bytes of a password that bcrypt uses."""
_CHANGEABLE: Final = {
    "cert",
    "cert_file",
    "client_allowed_sans",
    "client_ca",
    "client_ca_file",
    "key",
    "key_file",
}
"""The keys of `tls_server_config` that can change while the server runs."""

_Signature = tuple[int, int, int] | None


@dataclass(frozen=True)
class _Loaded:
    content: WebFile
    context: ssl.SSLContext | None


class WebConfig:
    """A web configuration, which follows changes of its file and of the files that it names.

    Users, headers, certificates, keys and CAs change without a restart. If the changed files are invalid, the
    previous configuration stays in use, and the log says so.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._reloading = Lock()
        self._seen: dict[Path, _Signature] = {file: _signature(file)}
        self._loaded = _load(file)
        self._seen = self._signatures()
        self._passwords = _Passwords()
        self._bucket = _TokenBucket()
        self._context = self._loaded.context
        if self._context is not None:
            self._context.sni_callback = self._use_current_certificate
            tls.check_names(self._context, self._allowed_names)

    def __repr__(self) -> str:
        return f"<WebConfig {self._file}>"

    @property
    def headers(self) -> dict[str, str]:
        """The headers to set on every response."""
        headers = self._current().content.http_server_config.headers
        return {name: value for name, value in headers.items() if value}

    @property
    def users(self) -> Mapping[str, str]:
        """Bcrypt hashes of passwords, by user name."""
        return self._current().content.basic_auth_users

    @property
    def requires_certificate(self) -> bool:
        """Whether only clients with a verified certificate can connect."""
        return self._loaded.content.requires_certificate

    @property
    def authenticates(self) -> bool:
        """Whether it admits only users with a password or clients with a verified certificate."""
        return self._loaded.content.authenticates

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for the server's socket; None without TLS.

        New connections get the current certificate.
        """
        return self._context

    def within_rate_limit(self) -> bool:
        """Count a request, and return whether `rate_limit` admits it."""
        limit = self._current().content.rate_limit
        return not limit.interval or self._bucket.take(limit.interval, limit.burst)

    def check_password(self, user: str, password: str) -> bool:
        """Return whether a password is right.

        Takes about 100 ms, unless the user has given the same password before: call it on a thread. An
        unknown user takes as long.
        """
        return self._passwords.check(self.users, user, password)

    def knows(self, user: str, password: str) -> bool:
        """Return whether the user has given this password before, and it was right. Takes microseconds."""
        return self._passwords.known(self.users, user, password)

    def _current(self) -> _Loaded:
        """Return the configuration in the files, or the last valid one."""
        if self._signatures() != self._seen:
            with self._reloading:
                if (seen := self._signatures()) != self._seen:
                    self._reload()
                    self._seen = seen
        return self._loaded

    def _reload(self) -> None:
        try:
            loaded = _load(self._file)
            self._check_change(loaded.content)
        except ConfigError as error:
            log.warning(
                "the previous web configuration stays in use, because the new one is invalid: %s", error
            )
        else:
            log.info("reloaded %s", self._file)
            self._loaded = loaded

    def _check_change(self, new: WebFile) -> None:
        old = self._loaded.content
        if _fixed(old.tls_server_config) != _fixed(new.tls_server_config):
            raise ConfigError(
                f"{self._file}: restart to change tls_server_config, except for certificates, keys and SANs"
            )
        if bool(old.basic_auth_users) != bool(new.basic_auth_users):
            raise ConfigError(f"{self._file}: restart to add the first user, or to remove the last one")

    def _signatures(self) -> dict[Path, _Signature]:
        files = [self._file]
        if (section := self._loaded.content.tls_server_config) is not None:
            files += tls.files(section, self._file.parent)
        return {file: _signature(file) for file in files}

    def _allowed_names(self) -> tuple[str, ...] | None:
        section = self._current().content.tls_server_config
        return None if section is None else section.client_allowed_sans

    def _use_current_certificate(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, context: ssl.SSLContext
    ) -> None:
        """Replace the context in a handshake. OpenSSL takes the certificate, the key and the CAs from it."""
        current = self._current().context
        if current is not None and current is not context:
            connection.context = current


def load_web_config(path: str | PathLike[str]) -> WebConfig:
    """Return a web configuration.

    Args:
        path: the path of the file.

    Raises:
        ConfigError: if a file cannot be read or is invalid. The message has one line per mistake.
    """
    return WebConfig(Path(path))


def credentials(authorization: str | None) -> tuple[str, str] | None:
    """Return the user and the password in an `Authorization` header; None if it has none.

    The format: https://www.rfc-editor.org/rfc/rfc7617
    """
    scheme, _, encoded = (authorization or "").strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    user, colon, password = text.partition(":")
    return (user, password) if colon else None


class _Passwords:
    """Checks passwords by their bcrypt hashes, one at a time because that takes a processor."""

    def __init__(self) -> None:
        self._checking = Lock()
        self._key = secrets.token_bytes(32)
        self._right: dict[str, bytes] = {}
        """A digest of each user's hash and password, which were right. The password itself is not kept."""

    def known(self, users: Mapping[str, str], user: str, password: str) -> bool:
        right = self._right.get(user)
        return (
            right is not None
            and user in users
            and hmac.compare_digest(right, self._digest(users[user], password))
        )

    def check(self, users: Mapping[str, str], user: str, password: str) -> bool:
        if self.known(users, user, password):
            return True
        import bcrypt  # noqa: PLC0415  # only the extra [server] installs it

        # An unknown user must take as long as a known one.
        hashed = users.get(user) or next(iter(users.values()), None)
        if hashed is None:
            return False
        with self._checking:
            try:
                right = bcrypt.checkpw(password.encode()[:_MAX_PASSWORD], hashed.encode())
            except ValueError:  # such as a NUL in the password, for some releases of bcrypt
                return False
        if not right or user not in users:
            return False
        self._right[user] = self._digest(hashed, password)
        return True

    def _digest(self, hashed: str, password: str) -> bytes:
        return hmac.digest(self._key, f"{hashed}\0{password}".encode(), "sha256")


class _TokenBucket:
    def __init__(self) -> None:
        self._lock = Lock()
        self._tokens = math.inf
        self._filled = time.monotonic()

    def take(self, interval: float, burst: int) -> bool:
        with self._lock:
            now = time.monotonic()
            self._tokens = min(burst, self._tokens + (now - self._filled) / interval)
            self._filled = now
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True


def _load(file: Path) -> _Loaded:
    context: ssl.SSLContext | None = None

    def mistakes(content: WebFile) -> Iterator[Mistake]:
        nonlocal context
        inconsistent = list(content.inconsistencies())
        yield from inconsistent
        if content.tls_server_config is not None and not inconsistent:
            try:
                context = tls.server_context(content.tls_server_config, file.parent)
            except tls.TlsError as error:
                yield ("tls_server_config", error.key), str(error)

    content = load_as(WebFile, file, mistakes)
    if content.basic_auth_users:
        try:
            import bcrypt  # noqa: F401, PLC0415
        except ImportError:
            raise ConfigError(
                f"{file}: basic_auth_users needs bcrypt: pip install 'llm-exporter[server]'"
            ) from None
    return _Loaded(content, context)


def _fixed(section: TlsServerConfig | None) -> dict[str, Any] | None:
    return None if section is None else section.model_dump(exclude=_CHANGEABLE)


def _signature(file: Path) -> _Signature:
    """Return what changes when a file is written or replaced; None if it is missing."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
