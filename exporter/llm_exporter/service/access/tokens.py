"""Tokens in files. They are read again when the files change, so that a new token needs no restart."""

from __future__ import annotations

import hashlib
import hmac
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ...config.model import Auth, Config, Token
from ...log import log
from .rights import Holder
from .sessions import is_valid, name_in, new_session, session_key

_MIN_CHARACTERS: Final = 16
_MAX_CHARACTERS: Final = 4096


def read_token(file: Path) -> bytes:
    """Return the token in the first line of a file.

    Raises:
        ValueError: The file holds no token that is safe to use. The message names the file and the reason.
    """
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a FIFO would wait for a writer
            raise ValueError(f"{file} is not a regular file")
        with file.open("rb") as lines:
            token = lines.readline(_MAX_CHARACTERS + 2).strip()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror or error}") from None
    if not token:
        raise ValueError(f"{file} has no token in its first line")
    if not _MIN_CHARACTERS <= len(token) <= _MAX_CHARACTERS:
        raise ValueError(
            f"the token in {file} has {len(token)} characters: use {_MIN_CHARACTERS} to {_MAX_CHARACTERS},"
            " for example those of `openssl rand -hex 32`"
        )
    if not all(0x21 <= byte <= 0x7E for byte in token):
        raise ValueError(f"the token in {file} has characters other than visible ASCII")
    return token


def mistakes(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the location and message of each mistake in the files of tokens.

    Only the service reads them: a metered process with the same configuration has no access to them.
    """
    first: dict[bytes, int] = {}
    for index, token in enumerate(config.auth.tokens):
        at = "auth", "tokens", index, "file"
        try:
            secret = read_token(token.file)
        except ValueError as error:
            yield at, str(error)
        else:
            if (other := first.setdefault(secret, index)) != index:
                yield at, f"the token in {token.file} is also that of auth.tokens.{other}"


class Tokens:
    """The tokens of a configuration.

    Args:
        auth: The tokens.
        count_error: Is called when a token's file can no longer be used. The token is then refused.
    """

    def __init__(self, auth: Auth, count_error: Callable[[], object]) -> None:
        self._files: Mapping[str, _TokenFile] = {
            token.name: _TokenFile(token, count_error) for token in auth.tokens
        }

    def __bool__(self) -> bool:
        """Return whether there are tokens."""
        return bool(self._files)

    def holder(self, secret: bytes) -> Holder | None:
        """Return the holder of a token; None if it is unknown. Takes the same time for any token."""
        found = self._found(secret)
        return None if found is None else found.holder

    def sign_in(self, secret: bytes, now: float) -> tuple[Holder, str] | None:
        """Return the holder of a token and a new session; None if the token is unknown."""
        found = self._found(secret)
        return None if found is None else (found.holder, new_session(found.name, session_key(secret), now))

    def signed_in(self, session: str, now: float) -> Holder | None:
        """Return who signed in to a session; None if it has ended or is forged."""
        file = self._files.get(name_in(session))
        secret = None if file is None else file.secret()
        if file is None or secret is None or not is_valid(session, session_key(secret), now):
            return None
        return file.holder

    def _found(self, secret: bytes) -> _TokenFile | None:
        digest = hashlib.sha256(secret).digest()
        found = [file for file in self._files.values() if hmac.compare_digest(file.digest(), digest)]
        return found[0] if found else None


class _TokenFile:
    """A token that follows its file."""

    def __init__(self, token: Token, count_error: Callable[[], object]) -> None:
        self.name = token.name
        self.holder = Holder(f"token {token.name}", frozenset(token.rights), token.labels)
        self._file = token.file
        self._count_error = count_error
        self._seen: object = ()
        self._secret: bytes | None = None
        self._digest = b""

    def digest(self) -> bytes:
        """Return the SHA-256 digest of the token; empty if the file cannot be used."""
        self._follow()
        return self._digest

    def secret(self) -> bytes | None:
        """Return the token; None if the file cannot be used."""
        self._follow()
        return self._secret

    def _follow(self) -> None:
        seen = self._fingerprint()
        if seen != self._seen:
            self._seen = seen
            self._read()

    def _read(self) -> None:
        try:
            self._secret = read_token(self._file)
            self._digest = hashlib.sha256(self._secret).digest()
        except ValueError as error:
            self._secret, self._digest = None, b""
            log.error("llm-exporter: requests with the %s are refused: %s", self.holder.name, error)
            self._count_error()

    def _fingerprint(self) -> tuple[int, int, int, int] | None:
        """Return values that change when the file is edited or replaced; None if there is no file."""
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode
