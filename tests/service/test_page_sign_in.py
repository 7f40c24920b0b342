"""People sign in to the live page in a real Chromium, and out."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import bcrypt
import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from support.browser import IN_CHROMIUM
from support.calls import a_call
from support.certificates import Certificates
from support.served import Served

pytestmark = IN_CHROMIUM

SECOND = 1000.0
"""In milliseconds, like the timeouts of Playwright."""
RIGHTS = {"people": "[read, admin]", "viewers": "[read]", "senders": "[ingest]"}


def secret(name: str) -> str:
    return f"{name}-0123456789abcdef"


def configured(directory: Path) -> list[str]:
    """Write a configuration with a token for each name, and return the options for it."""
    lines = ["auth:", "  tokens:"]
    for name, rights in RIGHTS.items():
        (directory / name).write_text(secret(name))
        lines.append(f"    - {{name: {name}, file: {directory / name}, rights: {rights}}}")
    (directory / "llm-exporter.yml").write_text("\n".join(lines))
    return ["--config", str(directory / "llm-exporter.yml")]


def send(served: Served, **call: Any) -> None:
    request = Request(
        f"{served.url}/api/v1/calls",
        msgspec.json.encode([a_call(**call)]),
        {"content-type": "application/json", "authorization": f"Bearer {secret('senders')}"},
    )
    with urlopen(request, timeout=60, context=served.tls) as answer:
        assert answer.status == 200


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with Served(tmp_path, *configured(tmp_path)) as served:
        yield served


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(ignore_https_errors=True)
    yield context
    context.close()


def opened(context: BrowserContext, served: Served) -> Page:
    page = context.new_page()
    page.goto(served.url)
    return page


def sign_in(page: Page, name: str) -> None:
    page.get_by_label("Token").fill(secret(name))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")


def test_the_page_asks_for_a_token_once(context: BrowserContext, served: Served) -> None:
    page = opened(context, served)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator("#state")).to_have_text("Signed out")
    token = page.get_by_label("Token")
    expect(token).to_be_focused()
    expect(token).to_have_attribute("type", "password")
    expect(token).to_have_attribute("autocomplete", "current-password")
    for hidden in ("#data", "#links", "#alerts", "#sign-out"):
        expect(page.locator(hidden)).to_be_hidden()

    token.fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("Could not sign in: the token is unknown")
    token.fill(secret("senders"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_have_text("Could not sign in: token senders lacks the right 'read'")
    assert context.cookies() == []

    sign_in(page, "people")
    expect(page.locator("#sign-in")).to_be_hidden()
    expect(page.locator("#data")).to_be_visible()
    page.reload()
    expect(page.locator("#state")).to_have_text("Live")
    another = opened(context, served)
    expect(another.locator("#state")).to_have_text("Live")
    expect(another.locator("#sign-in")).to_be_hidden()
    assert page.url == f"{served.url}/"


def test_scripts_cannot_use_the_cookie_which_lasts_twelve_hours(
    context: BrowserContext, served: Served
) -> None:
    page = opened(context, served)
    sign_in(page, "people")
    (cookie,) = context.cookies()
    shown = {name: cookie[name] for name in ("name", "path", "httpOnly", "secure", "sameSite")}
    assert shown == {
        "name": "llm-exporter-session",
        "path": "/",
        "httpOnly": True,
        "secure": False,
        "sameSite": "Strict",
    }
    assert 12 * 3600 - 60 < cookie["expires"] - time.time() <= 12 * 3600
    assert secret("people") not in cookie["value"]
    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]


def test_the_events_and_the_reset_work_with_the_session(context: BrowserContext, served: Served) -> None:
    page = opened(context, served)
    sign_in(page, "people")
    send(served, labels={"session": "s-1"})
    expect(page.locator("#recent tr")).to_have_count(1)
    expect(page.locator("#session")).to_have_text("s-1")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Reset session").click()
    expect(page.locator("#session-cost")).to_have_text("$0.00")


def test_who_lacks_the_right_has_no_reset(context: BrowserContext, served: Served) -> None:
    send(served, labels={"session": "s-1"})
    page = opened(context, served)
    sign_in(page, "viewers")
    expect(page.locator("#session")).to_have_text("s-1")
    expect(page.locator("#reset")).to_be_hidden()


def test_signing_out_ends_the_session(context: BrowserContext, served: Served) -> None:
    send(served)
    page = opened(context, served)
    sign_in(page, "people")
    expect(page.locator("#recent tr")).to_have_count(1)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert context.cookies() == []
    expect(page.locator("#recent tr")).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_changed_token_ends_the_session_of_an_open_page(
    context: BrowserContext, served: Served, tmp_path: Path
) -> None:
    page = opened(context, served)
    sign_in(page, "people")
    (tmp_path / "people").write_text("changed-0123456789abcdef")
    # Forced, because a request that the page is making anyway may have hidden it.
    page.get_by_label("Time range").select_option("1h", force=True)
    expect(page.get_by_label("Token")).to_be_visible()
    page.get_by_label("Token").fill("changed-0123456789abcdef")
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")


def test_a_session_outlives_a_restart_of_the_service(context: BrowserContext, served: Served) -> None:
    page = opened(context, served)
    sign_in(page, "people")
    served.kill()
    expect(page.locator("#state")).to_have_text("Reconnecting…")
    served.start()
    send(served)
    expect(page.locator("#state")).to_have_text("Live", timeout=60 * SECOND)
    expect(page.locator("#calls")).to_have_text("1")


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(context: BrowserContext, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    certificates.issue("127.0.0.1")
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}")
    options = [*configured(tmp_path), "--web.config.file", str(tmp_path / "web.yml")]
    with Served(tmp_path, *options, tls=certificates.client_context()) as served:
        page = opened(context, served)
        sign_in(page, "people")
        (cookie,) = context.cookies()
        assert (cookie["name"], cookie["secure"]) == ("__Host-llm-exporter-session", True)
        send(served)
        expect(page.locator("#recent tr")).to_have_count(1)


def test_with_users_the_browser_asks_for_a_password_instead(browser: Browser, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{alice: '{hashed}'}}")
    options = [*configured(tmp_path), "--web.config.file", str(tmp_path / "web.yml")]
    with Served(tmp_path, *options) as served:
        for password, state in (("correct horse", "Live"), ("wrong", "Reload the page to sign in")):
            credentials = {"username": "alice", "password": password}
            context = browser.new_context(http_credentials=credentials)  # type: ignore[arg-type]
            page = opened(context, served)
            expect(page.locator("#state")).to_have_text(state)
            expect(page.locator("#sign-in")).to_be_hidden()
            expect(page.locator("#sign-out")).to_be_hidden()
            context.close()
        basic = base64.b64encode(b"alice:correct horse").decode()
        assert served.status("/-/session", {"authorization": f"Basic {basic}"}) == 200


def test_the_form_fits_a_phone(browser: Browser, served: Served) -> None:
    context = browser.new_context(viewport={"width": 320, "height": 640})
    page = opened(context, served)
    expect(page.get_by_label("Token")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    context.close()
