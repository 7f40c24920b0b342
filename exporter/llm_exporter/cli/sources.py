"""Where the command line gets reports and calls: a running service, or its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol, cast
from urllib.parse import urlencode

import msgspec
from typing_extensions import override

from ..client.credentials import authorization
from ..client.transport import Rejected, ServiceClient, Unavailable
from ..errors import ConfigError
from ..service import reports
from ..service.ledger.base import Ledger, LedgerError
from ..service.requests import FILTERS, Parameters

_PAGE: Final = 10_000
_TIMEOUT_SECONDS: Final = 60.0


class Source(Protocol):
    """A source of reports and calls. Parameters are those of the REST API."""

    def rows(self, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return a report."""

    def calls(self, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        """Yield calls, newest first."""


class LedgerSource(Source):
    """Reads a ledger directly."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @override
    def rows(self, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        given = Parameters(parameters, *FILTERS, "by", "period")
        return reports.rows(self._ledger, given.query(), given.names("by"), given.period())

    @override
    def calls(self, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        query, before = Parameters(parameters, *FILTERS).query(), None
        while page := self._ledger.calls(query, limit=_PAGE, before=before):
            yield from (msgspec.to_builtins(reports.call_row(logged)) for logged in page)
            before = page[-1].position


class ServiceSource(Source):
    """Queries a running service.

    Raises:
        LedgerError: it is not the URL of a service, or the token is not one.
    """

    def __init__(self, url: str) -> None:
        try:
            self._service = ServiceClient(url)
            authorization(self._service.url)
        except ConfigError as error:
            raise LedgerError(str(error)) from None

    @override
    def rows(self, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._get("report", parameters)["rows"])

    @override
    def calls(self, parameters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        page = self._get("calls", {**parameters, "limit": str(_PAGE)})
        yield from page["calls"]
        while page["next"] is not None:
            page = self._get("calls", {**parameters, "limit": str(_PAGE), "before": str(page["next"])})
            yield from page["calls"]

    def close(self) -> None:
        """Close the connection."""
        self._service.close()

    def _get(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        try:
            response = self._service.get(f"/api/v1/{path}?{urlencode(parameters)}", _TIMEOUT_SECONDS)
            return msgspec.json.decode(response, type=dict[str, Any])
        except Unavailable as error:
            raise LedgerError(str(error)) from None
        except (Rejected, msgspec.MsgspecError) as error:
            raise LedgerError(f"{self._service.url}: {error}") from None
