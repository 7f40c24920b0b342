"""What a process shows the service to be let in: a token, or the user and password of the URL."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from .. import environment
from ..errors import ConfigError
from ..http_url import HttpUrl


def authorization(url: HttpUrl) -> str:
    """Return the `Authorization` header for a service; empty if there is nothing to show.

    The token of `LLM_EXPORTER_TOKEN` comes first, then the first line of `LLM_EXPORTER_TOKEN_FILE`, which is
    read each time so that a new token needs no restart, then the user and password in the URL.

    Raises:
        ConfigError: if the token cannot be read or is not one. The message does not contain it.
    """
    if token := environment.TOKEN.value:
        return f"Bearer {_checked(token, 'LLM_EXPORTER_TOKEN')}"
    if path := environment.TOKEN_FILE.value:
        return f"Bearer {_read(Path(path))}"
    if url.credentials:
        return f"Basic {b64encode(url.credentials.encode()).decode()}"
    return ""


def _read(path: Path) -> str:
    try:
        first, *_ = path.read_text(encoding="utf-8").splitlines() or [""]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"LLM_EXPORTER_TOKEN_FILE: {path}: {reason}") from None
    return _checked(first.strip(), f"LLM_EXPORTER_TOKEN_FILE: {path}")


def _checked(token: str, source: str) -> str:
    if not token:
        raise ConfigError(f"{source}: is empty")
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError(f"{source}: a token has only printable ASCII characters, and no spaces")
    return token
