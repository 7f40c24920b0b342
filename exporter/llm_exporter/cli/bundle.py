"""Find our dashboards and rules, write them to a directory, and push dashboards to Grafana."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from ..http_url import parse_http_url
from ..no_redirects import opener

FOLDER: Final = "llm"
"""The uid of the dashboards' folder, the same as in the provisioning."""
TIMEOUT: Final = 30.0
"""The timeout of a request to Grafana, in seconds."""

_PACKAGE = Path(__file__).parents[1]


def bundle(name: Literal["docs", "grafana", "prometheus"]) -> Path:
    """Return the directory of our `docs`, `grafana` or `prometheus` files; treat it as read-only.

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


class Target(NamedTuple):
    """Where the files will be used. An empty text stands for the default."""

    prometheus: str = ""
    """The URL at which Grafana reaches Prometheus; if empty, no data source is provisioned."""
    dashboards: str = ""
    """The directory of the dashboards as Grafana sees it; by default the one that they are written to."""
    grafana: str = ""
    """The URL that the links of alerts begin with; by default the external label `grafana_url`."""
    runbooks: str = ""
    """The URL of the published runbooks; by default the external label `runbooks_url`."""
    page: str = ""
    """The URL of the live page, for the links on dashboards; by default the external label `page_url`."""
    version: Literal["2", "3"] = "2"
    """The major version of Prometheus: 3 can compute the increase in a minute from fewer samples."""


def write(into: Path, target: Target) -> list[Path]:
    """Write dashboards, rules, provisioning, runbooks and examples for an existing Grafana and Prometheus.

    Args:
        into: The directory to write to. Existing files of the same names are replaced; others are kept.
        target: Where the files will be used.

    Returns:
        The files.

    Raises:
        OSError: The directory is not writable.
    """
    written = []
    for name, pattern in _FILES:
        if pattern == _DATA_SOURCE and not target.prometheus:
            continue
        source = bundle(name)
        for file in sorted(source.glob(pattern)):
            path = into / name / file.relative_to(source)
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "prometheus" and target.version == "3":
                newer = source / "prometheus3" / file.name
                file = newer if newer.exists() else file  # noqa: PLW2901
            path.write_text(_adapted(file.read_text(encoding="utf-8"), into, target), encoding="utf-8")
            written.append(path)
    return written


_DATA_SOURCE: Final = "provisioning/datasources/*.yml"
_FILES: Final[tuple[tuple[Literal["docs", "grafana", "prometheus"], str], ...]] = (
    ("docs", "runbooks.md"),
    ("docs", "llm-exporter.example.yml"),
    ("docs", "llm-exporter.schema.json"),
    ("grafana", "dashboards/*.json"),
    ("grafana", "provisioning/dashboards/*.yml"),
    ("grafana", _DATA_SOURCE),
    ("prometheus", "examples/*.yml"),
    ("prometheus", "rules/*.yml"),
    ("prometheus", "templates/*.tmpl"),
)
"""What is written."""


def _adapted(text: str, into: Path, target: Target) -> str:
    """Return one of our files as it is to be on the target."""
    dashboards = target.dashboards or str((into / "grafana" / "dashboards").absolute())
    # Quoted as JSON, which is valid YAML, because a path can contain any character.
    text = text.replace(" $LLM_EXPORTER_DASHBOARDS", f" {json.dumps(dashboards)}")
    text = text.replace(" $LLM_EXPORTER_PROMETHEUS_URL", f" {json.dumps(target.prometheus)}")
    # Grafana refuses to start with two default data sources, and the existing one is none of our business.
    text = text.replace("isDefault: true", "isDefault: false")
    urls = {"grafana_url": target.grafana, "runbooks_url": target.runbooks, "page_url": target.page}
    for label, url in urls.items():
        if url:
            text = text.replace(f"{{{{ $externalLabels.{label} }}}}", url)
    if target.grafana and target.runbooks:
        text = _ABOUT_LINKS.sub("", text)
    return _OTHER_DOCUMENTS.sub(r"\1", text)


_ABOUT_LINKS: Final = re.compile(r"(?:^#\n)?^# Links start with the external labels .*\n", re.MULTILINE)
"""What our rules say about the external labels that their links begin with."""
_OTHER_DOCUMENTS: Final = re.compile(r"\[([^\]\n]+)\]\(\w+\.md[^)\n]*\)")
"""A link to a document beside the runbooks, which is not part of what is written."""


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
