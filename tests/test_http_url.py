"""No password of a URL is in an error, in the log or in the name of a file, wherever the URL is given."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import pytest
from click.testing import CliRunner

import llm_exporter
from llm_exporter.cli.main import main
from llm_exporter.client import default
from llm_exporter.client.default import replace
from llm_exporter.client.pipeline import Pipeline
from llm_exporter.client.transport import ServiceClient, Unavailable
from llm_exporter.config.loading import load
from llm_exporter.config.model import Prices
from llm_exporter.errors import ConfigError
from llm_exporter.http_url import HttpUrl, parse_http_url, without_credentials
from llm_exporter.pricing.updates import PriceUpdates
from llm_exporter.service.ledger.base import LedgerError
from llm_exporter.service.ledger.store import open_ledger
from support.calls import a_call
from support.scripted import Response, Server

CHARACTERS = (
    "",
    "@",
    ":",
    "/",
    "?",
    "#",
    "%",
    "%zz",
    "%40",
    " ",
    "[",
    "]",
    "\\",
    "\n",
    "'",
    '"',
    "&",
    "ü",
    "🔑",
)
FORMS = (
    "{scheme}://me:{password}@127.0.0.1:1/0",
    "{scheme}://:{password}@127.0.0.1:1",
    "{scheme}://{password}@127.0.0.1:1",
    "{scheme}://me:{password}@127.0.0.1:99999",
    "{scheme}://me:{password}@[::1",
    "{scheme}://me:{password}",
    "{scheme}:///me:{password}@127.0.0.1:1",
    "{scheme}:/me:{password}@127.0.0.1:1",
    "{scheme}:me:{password}@127.0.0.1:1",
    "{scheme}//me:{password}@127.0.0.1:1",
    "//me:{password}@127.0.0.1:1",
    "me:{password}@127.0.0.1:1",
    ":{password}@127.0.0.1:1",
    " {scheme}://me:{password}@127.0.0.1:1",
    "ftp://me:{password}@127.0.0.1:1",
    "{scheme}://127.0.0.1:1/0?password={password}",
)


def command(*arguments: str) -> str:
    """Return what `llm-exporter` prints. It must not start a server or end with a traceback."""
    result = CliRunner(env={"LLM_EXPORTER_GRAFANA_TOKEN": "glsa_1"}).invoke(main, [*arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output


def environment(url: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_EXPORTER_URL", url)
        patch.setattr(default, "_service", "")  # which `instrument` changes
        before = replace(Pipeline())
        try:
            llm_exporter.instrument()
        except ConfigError as error:
            return str(error)
        finally:
            llm_exporter.uninstrument()
            used = replace(before)
    try:
        ServiceClient(url).send([a_call()], 10)
    except Unavailable as error:
        return f"{used!r} {error}"
    raise AssertionError("nothing listens there")


def run(url: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.execvpe", lambda *_: None)
        return command("run", "--url", url, "--", "true")


def configured(key: str) -> Callable[[str], str]:
    def place(value: str) -> str:
        section, _, name = key.rpartition(".")
        content = {section: {name: value, "update": True}} if section else {name: value}
        Path("llm-exporter.yml").write_text(json.dumps(content))
        try:
            config = load("llm-exporter.yml")
        except ConfigError as error:
            return str(error)
        if section:
            failed = threading.Event()
            updates = PriceUpdates(failed.set)
            updates.configure(config.prices)
            assert failed.wait(60)
            updates.stop()
        return ""

    return place


def store(value: str) -> str:
    with suppress(LedgerError):
        open_ledger(value, "a:1").close()
    try:
        open_ledger(value, "a:1").close()
    except LedgerError as error:
        return str(error)
    return ""


PLACES: dict[str, tuple[str, Callable[[str], str]]] = {
    "LLM_EXPORTER_URL": ("http", environment),
    "run --url": ("http", run),
    "report --url": ("http", lambda url: command("report", "--url", url)),
    "report --store": ("redis", lambda url: command("report", "--store", url)),
    "serve --store": ("redis", store),
    "store": ("redis", configured("store")),
    "prices.update_url": ("http", configured("prices.update_url")),
    "bundle --grafana-url": ("http", lambda url: command("bundle", "out", "--grafana-url", url)),
    "serve --web.external-url": (
        "http",
        lambda url: command("serve", "--port", "0", "--store", "a:b", "--web.external-url", url),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_a_password_is_not_shown(
    place: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    caplog.set_level(logging.DEBUG)
    scheme, use = PLACES[place]
    for character in CHARACTERS:
        if (form, character) == ("{scheme}://me:{password}", "@"):
            continue  # the password ends there
        said = use(form.format(scheme=scheme, password=f"s3cr3t{character}pa55"))
        names = [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")]
        for text in (said, unquote(said), caplog.text, *names):
            assert not re.search("s3cr3t|pa55", text), (character, text)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://h", HttpUrl("http", "h", 80, "")),
        ("HTTPS://H:9/a/", HttpUrl("https", "h", 9, "/a")),
        ("http://me:p%40%2Fss@h/a", HttpUrl("http", "h", 80, "/a", "me:p@/ss")),
        ("http://me:p@?#:ss@[::1]:1", HttpUrl("http", "::1", 1, "", "me:p@?#:ss")),
    ],
)
def test_the_parts_of_a_url(url: str, parts: HttpUrl) -> None:
    assert parse_http_url(url) == parts


def test_a_url_is_shown_without_credentials_query_and_usual_port() -> None:
    assert str(parse_http_url("https://me:pw@h:443/a?token=t#f")) == "https://h/a"
    assert str(parse_http_url("http://me:pw@[::1]:443/")) == "http://[::1]:443"
    assert without_credentials("https://me:p@w@h/a?b") == "https://h/a?b"


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "HTTP 404"), (302, "HTTP 302"), (200, "not a price table")]
)
def test_a_failed_fetch_of_prices_is_counted_and_said_without_the_password(
    server: Server, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.respond_with("/t", Response(b"{}", status=status, headers={"Location": f"{server.url}/elsewhere"}))
    url = server.url.replace("://", "://me:s3%40cr3t@")
    failed = threading.Event()
    updates = PriceUpdates(failed.set)
    updates.configure(Prices(update=True, update_url=f"{url}/t"))
    assert failed.wait(60)
    updates.stop()
    (request,) = server.requests
    assert request.headers["authorization"] == "Basic bWU6czNAY3IzdA=="
    assert f"cannot fetch prices from {server.url}/t: " in caplog.text
    assert reason in caplog.text
    assert "cr3t" not in caplog.text
