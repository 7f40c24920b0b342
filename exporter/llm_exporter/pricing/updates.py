"""The age of the price table, and fetching newer ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..config.model import Prices
from ..forking import late_import
from ..http_url import parse_http_url
from ..log import log
from ..threads import Event, Thread

_INTERVAL_SECONDS: Final = 3600.0


def table_timestamp() -> float:
    """Return when the current price table was fetched or installed, as a Unix timestamp in seconds."""
    with late_import:
        from . import genai  # noqa: PLC0415  # takes 0.1 s

    return genai.table_timestamp()


class PriceUpdates:
    """Fetches newer price tables every hour, if configured.

    A failed fetch changes nothing: the current table only gets older, which its metric shows.

    Args:
        count_error: Is called after each failed fetch.
    """

    def __init__(self, count_error: Callable[[], object]) -> None:
        self._count_error = count_error
        self._fetching: _Fetching | None = None

    def configure(self, config: Prices) -> None:
        """Start or stop fetching, as configured."""
        self.stop()
        if config.update:
            self._fetching = _Fetching(config.update_url, self._count_error)

    def stop(self) -> None:
        """Stop fetching. The last fetched table stays in use."""
        if self._fetching is not None:
            self._fetching.stop()
            self._fetching = None


class _Fetching:
    """Fetches tables from a URL, on a thread of its own."""

    def __init__(self, url: str, count_error: Callable[[], object]) -> None:
        self._url = url
        self._count_error = count_error
        self._stopped = Event()
        Thread(self._run, "llm-exporter-prices", self._broke).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._fetch()
            except BaseException as error:  # whatever it is, the next fetch may succeed
                self._broke(error)
            self._stopped.wait(_INTERVAL_SECONDS)

    def _fetch(self) -> None:
        with late_import:
            from . import genai  # noqa: PLC0415  # takes 0.1 s

        try:
            genai.fetch_table(self._url)
        except genai.TableError as error:
            self._failed(str(error))

    def _broke(self, error: BaseException) -> None:
        self._failed(type(error).__name__)  # its text may contain the URL

    def _failed(self, reason: str) -> None:
        shown = parse_http_url(self._url) if self._url else "the URL of genai-prices"
        log.warning("llm-exporter: cannot fetch prices from %s: %s", shown, reason)
        self._count_error()
