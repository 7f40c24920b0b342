"""Push dashboards to Grafana through its HTTP API."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..http_url import parse_http_url
from ..no_redirects import opener
from .dashboards.panels import Json

FOLDER: Final = "llm"
"""The uid of the dashboards' folder, the same as in the provisioning."""
TIMEOUT: Final = 30.0
"""The timeout of a request to Grafana, in seconds."""


class PushFailed(RuntimeError):  # noqa: N818  # describes an event, like BudgetExceeded
    """A dashboard could not be pushed to Grafana; the message is one line."""


def push(boards: Iterable[Json], url: str, token: str) -> Iterator[str]:
    """Push dashboards, and yield the URL of each.

    https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/

    Args:
        boards: The dashboards.
        url: The URL of Grafana, without user and password.
        token: A token of a service account that can write dashboards and folders.

    Raises:
        PushFailed: Grafana is unreachable or rejected a request.
    """
    grafana = _Grafana(url, token)
    if grafana.request("GET", f"/api/folders/{FOLDER}", missing_ok=True) is None:
        grafana.request("POST", "/api/folders", {"uid": FOLDER, "title": "LLM"})
    for dashboard in boards:
        # Overwrites a dashboard with the same uid, such as one that an older release pushed.
        body = {"dashboard": {**dashboard, "id": None}, "folderUid": FOLDER, "overwrite": True}
        pushed = grafana.request("POST", "/api/dashboards/db", body)
        yield f"{grafana.url}{pushed['url']}"


def _shown(location: str | None) -> str:
    try:
        return str(parse_http_url(location or ""))
    except ValueError:
        return "another address"


class _Grafana:
    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url, token

    def request(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        """Return the decoded response, or None for a missing resource if `missing_ok`."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(  # noqa: S310  # the user's own URL
                self.url + path, data, headers, method=method
            )
            with opener.open(request, timeout=TIMEOUT) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                # An Editor gets 403, not 404, for a folder that does not exist.
                if missing_ok and error.code in {403, 404}:
                    return None
                raise PushFailed(self._describe(error)) from None
        except ValueError:  # not a URL, or not JSON
            raise PushFailed(f"{self.url} is not a Grafana server: it did not return JSON") from None
        except OSError as error:
            raise PushFailed(f"cannot reach {self.url}: {getattr(error, 'reason', error)}") from None

    def _describe(self, error: urllib.error.HTTPError) -> str:
        if error.code == 401:
            return f"{self.url} rejected the token"
        if error.code == 403:
            return (
                f"{self.url} does not allow the token to write dashboards: "
                "give its service account the role Editor"
            )
        if 300 <= error.code < 400:
            return f"{self.url} redirects to {_shown(error.headers['Location'])}: use that as --grafana-url"
        try:
            message = json.loads(error.read(10_000))["message"]
        except (ValueError, KeyError, TypeError):
            message = error.reason
        return f"{self.url} responded with {error.code}: {message}"
