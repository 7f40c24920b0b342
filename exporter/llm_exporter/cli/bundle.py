"""The dashboards, scrape config and rules: where they are, and how they get to a Grafana and a Prometheus."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

FOLDER: Final = "llm"
"""The uid of the folder that the dashboards are in, as provisioned."""
PATIENCE: Final = 30.0
"""Seconds that one request to Grafana may take."""

_PACKAGE = Path(__file__).parents[1]


def bundle(name: Literal["grafana", "prometheus"]) -> Path:
    """Return the directory of our `grafana` or `prometheus` files, to be read and never written to.

    They are in `llm_exporter/bundle_data/` when installed from a wheel, at the repository's top level
    otherwise. Raises FileNotFoundError when the package was installed without them.
    """
    candidates = (_PACKAGE / "bundle_data" / name, _PACKAGE.parents[1] / name)
    for directory in candidates:
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"no {name} files at {' or '.join(map(str, candidates))}")


class PushFailed(RuntimeError):  # noqa: N818  # reads as what happened, like BudgetExceeded
    """Grafana did not take a dashboard; the message is one line that says why."""


def write(into: Path, prometheus: str) -> None:
    """Write dashboards, rules and provisioning for a Grafana and a Prometheus that are there already.

    Args:
        into: the directory; files of ours in it are replaced, others left.
        prometheus: where Grafana reaches Prometheus.

    Raises:
        OSError: when the directory cannot be written to.
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
                # Quoted as JSON, which is YAML: a path may have anything in it.
                text = text.replace(f" {name}", f" {json.dumps(value)}")
            target = into / source.name / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")


def push(url: str, token: str) -> Iterator[str]:
    """Put the dashboards into a Grafana by its HTTP API; yield the address of each that is there.

    https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/

    Args:
        url: Grafana's.
        token: of a service account that may write dashboards and folders.

    Raises:
        PushFailed: when Grafana cannot be reached, or does not take one.
    """
    grafana = _Grafana(url.rstrip("/"), token)
    if grafana.request("GET", f"/api/folders/{FOLDER}", missing_ok=True) is None:
        grafana.request("POST", "/api/folders", {"uid": FOLDER, "title": "LLM"})
    for file in sorted((bundle("grafana") / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_bytes())
        # Over the one of the same uid, which a release before may have put there.
        asked = {"dashboard": {**dashboard, "id": None}, "folderUid": FOLDER, "overwrite": True}
        answer = grafana.request("POST", "/api/dashboards/db", asked)
        yield f"{grafana.url}{answer['url']}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: the token is for one server."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class _Grafana:
    def __init__(self, url: str, token: str) -> None:
        self.url, self._token = url, token
        self._opener = urllib.request.build_opener(_NoRedirect)

    def request(self, method: str, path: str, body: Any = None, *, missing_ok: bool = False) -> Any:
        """Return what Grafana answers; None for what is missing, if it may be."""
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(  # noqa: S310  # the user's own URL
                self.url + path, data, headers, method=method
            )
            with self._opener.open(request, timeout=PATIENCE) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                # To an Editor, Grafana says of a folder that does not exist that it may not be seen.
                if missing_ok and error.code in {403, 404}:
                    return None
                raise PushFailed(self._refusal(error)) from None
        except ValueError:  # no URL, or no JSON
            raise PushFailed(f"{self.url} is no Grafana: it does not answer in JSON") from None
        except OSError as error:
            raise PushFailed(f"cannot reach {self.url}: {getattr(error, 'reason', error)}") from None

    def _refusal(self, error: urllib.error.HTTPError) -> str:
        if error.code == 401:
            return f"{self.url} does not know the token"
        if error.code == 403:
            return (
                f"{self.url} does not let the token write dashboards: its service account has to be an Editor"
            )
        if 300 <= error.code < 400:
            return f"{self.url} redirects to {error.headers['Location']}: give that as --grafana-url"
        try:
            said = json.loads(error.read(10_000))["message"]
        except (ValueError, KeyError, TypeError):
            said = error.reason
        return f"{self.url} answered {error.code}: {said}"
