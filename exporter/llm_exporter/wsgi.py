"""WSGI middleware that labels LLM calls by the headers of the request for which they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .client.header_labels import HEADERS, during_request, labels_in, names_of

__all__ = ["LabelsMiddleware"]


class LabelsMiddleware:
    """Labels the LLM calls of each HTTP request by its headers.

    Clients choose these labels, so use it only behind something that you trust to set the headers. Labels
    that the program sets win, then what frameworks know. `instrument(labels_from=())` turns it off.

    Args:
        app: the WSGI application.
        headers: labels by the names of their headers, in any case. It replaces the default, `x-llm-agent` for
            `agent` and `x-llm-phase` for `phase`.

    Raises:
        ValueError: if a header or a label has no valid name.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], headers: Mapping[str, str] = HEADERS) -> None:
        self._app = app
        self._names = {
            f"HTTP_{name.upper().replace('-', '_')}": label for name, label in names_of(headers).items()
        }

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Return the response of the application, whose body may be generated later."""
        labels = labels_in(self._known(environ))
        with during_request(labels):
            body = self._app(environ, start_response)
        return _Body(body, labels) if labels and not _is_ready(body, environ) else body

    def _known(self, environ: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
        for name, label in self._names.items():
            if name in environ:
                yield label, environ[name].encode("latin-1", errors="replace")


def _is_ready(body: Iterable[bytes], environ: dict[str, Any]) -> bool:
    """Return whether a body is a list or a file, which a server may send in a better way than any other."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, list | tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper))


class _Body:
    """Generates a body under the labels of its request, piece by piece, and not in the code that iterates."""

    def __init__(self, body: Iterable[bytes], labels: Mapping[str, str]) -> None:
        self._labels = labels
        self._body = body
        self._pieces: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with during_request(self._labels):
            if self._pieces is None:
                self._pieces = iter(self._body)
            return next(self._pieces)

    def close(self) -> None:
        """Close the body, if it can be closed."""
        close = getattr(self._body, "close", None)
        if close is not None:
            with during_request(self._labels):
                close()
