"""Find our dashboards and rules, write them to a directory, and push dashboards to Grafana."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from ..http_url import parse_http_url
from ..no_redirects import opener

FOLDER: Final = "llm"
"""The uid of the dashboards' folder, the same as in the provisioning."""
TIMEOUT: Final = 30.0
"""The timeout of a request to Grafana, in seconds."""

_PACKAGE = Path(__file__).parents[1]


def bundle(name: Literal["grafana", "prometheus"]) -> Path:
    """Return the directory of our `grafana` or `prometheus` files; treat it as read-only.

    A wheel has them in `llm_exporter/bundle_data/`, a source tree at its top level.

    Raises:
        FileNotFoundError: The package was installed without these files.
    """
    candidates = (_PACKAGE / "bundle_data" / name, _PACKAGE.parents[1] / name)
    for directory in candidates:
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"no {name} files at {' or '.join(map(str, candidates))}")


class PushFailed(RuntimeError):  # noqa: N818  # describes an event, like BudgetExceeded
    """A dashboard could not be pushed to Grafana; the message is one line."""


def write(into: Path, prometheus: str) -> None:
    """Write dashboards, rules and provisioning for an existing Grafana and Prometheus.

    Args:
        into: The directory to write to. Existing files of the same names are replaced; others are kept.
        prometheus: The URL at which Grafana reaches Prometheus.

    Raises:
        OSError: The directory is not writable.
    """
    dashboards = into / "grafana" / "dashboards"
    values = {
        "$LLM_EXPORTER_DASHBOARDS": str(dashboards.absolute()),
        "$LLM_EXPORTER_PROMETHEUS_URL": prometheus,
    }
    sources = (bundle("grafana"), "dashboards/*.json"), (bundle("grafana"), "provisioning/*/*.yml")
    for source, pattern in (*sources, (bundle("prometheus"), "rules/*.yml")):
        for file in sorted(source.glob(pattern)):
            text = file.read_text(encoding="utf-8")
            for name, value in values.items():
                # Quoted as JSON, which is valid YAML, because a path can contain any character.
                text = text.replace(f" {name}", f" {json.dumps(value)}")
            target = into / source.name / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


def push(url: str, token: str) -> Iterator[str]:
    """Push the dashboards through Grafana's HTTP API, and yield the URL of each.

    https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/

    Args:
        url: The URL of Grafana.
        token: A token of a service account that can write dashboards and folders.

    Raises:
        PushFailed: Grafana is unreachable or rejected a request.
    """
    try:
        parts = parse_http_url(url)
    except ValueError as error:
        raise PushFailed(f"--grafana-url: {error}") from None
    if parts.credentials:
        raise PushFailed("--grafana-url: must have no user and password, because the token is sent instead")
    grafana = _Grafana(str(parts), token)
    if grafana.request("GET", f"/api/folders/{FOLDER}", missing_ok=True) is None:
        grafana.request("POST", "/api/folders", {"uid": FOLDER, "title": "LLM"})
    for file in sorted((bundle("grafana") / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_bytes())
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
