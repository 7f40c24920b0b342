"""Attacks by web pages, in a real Chromium: a planted page on another origin, and DNS rebinding."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from playwright.sync_api import Request as PageRequest

import llm_exporter
from support.browser import IN_CHROMIUM
from support.calls import a_call
from support.metered import Metered
from support.served import Served

pytestmark = IN_CHROMIUM

TOKEN = "people-0123456789abcdef"
READS = ("/", "/metrics", "/api/v1/calls", "/api/v1/cost", "/api/v1/calls?format=csv", "/-/session")
WRITES = (
    "/api/v1/calls",
    "/api/v1/sessions/s-1/reset",
    "/api/v1/alerts",
    "/-/reload",
    "/-/login",
    "/-/logout",
)

ATTACK = """async ({url, reads, writes}) => {
  const read = [];
  const attempts = [];
  const patience = new Promise((done) => setTimeout(done, 5000));
  const attempt = (name, action) => attempts.push((async () => {
    try {
      const got = await Promise.race([action(), patience]);
      if (got) read.push([name, got]);
    } catch {}
  })());
  const text = async (path, options) => (await fetch(url + path, options)).text();
  const element = (tag, attributes) => {
    const made = Object.assign(document.createElement(tag), attributes);
    document.body.append(made);
    return made;
  };
  const loaded = (made) =>
    new Promise((done) => {
      made.onload = () => done(true);
      made.onerror = () => done(false);
    });
  const json = { "content-type": "application/json" };

  for (const path of reads) {
    for (const mode of ["cors", "no-cors", "same-origin"]) {
      attempt(`fetch ${mode} ${path}`, () => text(path, { mode, credentials: "include" }));
    }
    attempt(`image ${path}`, () => loaded(element("img", { src: url + path })));
    attempt(`script ${path}`, () => loaded(element("script", { src: url + path })));
    attempt(`style ${path}`, () => loaded(element("link", { rel: "stylesheet", href: url + path })));
    attempt(`frame ${path}`, async () => {
      const frame = element("iframe", { src: url + path });
      await loaded(frame);
      return frame.contentDocument?.body.textContent;
    });
  }
  const calls = '[{"provider":"evil","model":"m","operation":"chat","tokens":{"input":1}}]';
  for (const path of writes) {
    const body = path.endsWith("login") ? '{"token":"people-0123456789abcdef"}' : calls;
    for (const [mode, headers] of [["cors", json], ["no-cors", {}], ["no-cors", json]]) {
      const options = { method: "POST", mode, headers, body, credentials: "include" };
      attempt(`post ${mode} ${path}`, () => text(path, options));
    }
    navigator.sendBeacon(url + path, new Blob([body], { type: "text/plain" }));
    for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
      attempt(`form ${enctype} ${path}`, async () => {
        const frame = element("iframe", { name: `target-${Math.random()}` });
        const form = element("form", { method: "POST", action: url + path, enctype, target: frame.name });
        form.append(Object.assign(document.createElement("input"), { name: body.slice(0, -1), value: "]" }));
        form.submit();
        await loaded(frame);
        return frame.contentDocument?.body.textContent;
      });
    }
  }
  attempt("events", () =>
    new Promise((done) => {
      const events = new EventSource(`${url}/api/v1/events`, { withCredentials: true });
      events.onopen = () => done("open");
      events.onerror = () => done("");
    }),
  );
  attempt("socket", () =>
    new Promise((done) => {
      const socket = new WebSocket(url.replace("http", "ws") + "/api/v1/events");
      socket.onopen = () => done("open");
      socket.onerror = () => done("");
    }),
  );
  await Promise.all(attempts);
  return read;
}"""


class Planted:
    """The web server of an attacker: one empty page."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.end_headers()
                self.wfile.write(b"<!doctype html><title>planted</title><link rel=icon href=data:,><body>")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    planted = Planted()
    yield planted
    planted.close()


def config(directory: Path, *, tokens: bool) -> list[str]:
    file = directory / "llm-exporter.yml"
    (directory / "people").write_text(TOKEN)
    entry = f"{{name: people, file: {directory}/people, rights: [ingest, read, admin]}}"
    file.write_text(f"auth: {{tokens: [{entry if tokens else ''}]}}")
    return ["--config", str(file)]


@pytest.fixture(params=[False, True], ids=["open", "signed in"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """A service with one call, on which the attacker's victim is signed in if it has tokens."""
    with Served(tmp_path, *config(tmp_path, tokens=request.param)) as served:
        headers = {"content-type": "application/json", **authorization(served)}
        body = msgspec.json.encode([a_call(labels={"session": "s-1"})])
        urlopen(Request(f"{served.url}/api/v1/calls", body, headers), timeout=60).close()
        yield served


def authorization(served: Served) -> dict[str, str]:
    return {"authorization": f"Bearer {TOKEN}"} if served.status("/api/v1/cost") == 401 else {}


def visible_state(served: Served) -> dict[str, Any]:
    """Return what a successful attack would change."""
    get = partial(served.get_text, headers=authorization(served))
    reloads = [line for line in get("/metrics").splitlines() if "last_reload_success_timestamp" in line]
    return {
        "calls": get("/api/v1/calls"),
        "session": get("/api/v1/cost?session=s-1").partition('"since"')[0],
        "reloads": reloads,
    }


@pytest.fixture
def context(browser: Browser, served: Served) -> Iterator[BrowserContext]:
    """A browser in which the page of the service is open, and signed in if there are tokens."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(served.url)
    if authorization(served):
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")
    yield context
    context.close()


def requests_of(page: Page) -> list[PageRequest]:
    """Return a list to which the requests of a page will be added."""
    requests: list[PageRequest] = []

    def note(request: PageRequest) -> None:  # Playwright cannot call `list.append`
        requests.append(request)

    page.on("request", note)
    return requests


def cookies_sent_by(context: BrowserContext, page: Page) -> list[str]:
    """Return a list to which the cookies that a page sends will be added.

    Playwright's `Request.all_headers` waits forever for a request that the browser blocked.
    """
    cookies: list[str] = []
    session = context.new_cdp_session(page)

    def note(event: dict[str, Any]) -> None:
        cookies.extend(value for name, value in event["headers"].items() if name.lower() == "cookie")

    session.on("Network.requestWillBeSentExtraInfo", note)
    session.send("Network.enable")
    return cookies


def attack(page: Page, url: str, writes: Sequence[str] = WRITES) -> Any:
    return page.evaluate(ATTACK, {"url": url, "reads": READS, "writes": writes})


@pytest.mark.parametrize("site", ["another site", "another port"])
def test_a_planted_page_reads_and_changes_nothing(
    context: BrowserContext, served: Served, planted: Planted, site: str
) -> None:
    """Another port is the same site for cookies, so only the checks of the headers stop that page."""
    before = visible_state(served)
    alerts = context.pages[0].locator("#alerts")
    session = context.cookies()
    page = context.new_page()
    sent, cookies = requests_of(page), cookies_sent_by(context, page)
    host = "evil.test" if site == "another site" else "127.0.0.1"
    page.goto(f"http://{host}:{planted.port}/")

    assert attack(page, served.url) == []

    assert visible_state(served) == before
    expect(alerts).to_be_empty()
    assert context.cookies() == session
    attacks = [request for request in sent if request.url.startswith(served.url)]
    assert len(attacks) > len(READS) + len(WRITES)
    assert any(request.method == "POST" for request in attacks)
    assert cookies == [] or (site == "another port" and session)


def test_the_attack_works_on_the_page_of_the_service_itself(context: BrowserContext, served: Served) -> None:
    """What the planted page cannot do is nothing that fails everywhere."""
    read = dict(attack(context.pages[0], served.url, ["/api/v1/calls"]))
    for path in READS:
        assert read[f"fetch cors {path}"]
    assert '"accepted":1' in read["post cors /api/v1/calls"]
    assert read["events"] == "open"
    calls = served.get_text("/api/v1/calls", authorization(served))
    assert '"evil"' in calls


def test_a_frame_and_a_link_of_a_planted_page_show_nothing(
    context: BrowserContext, served: Served, planted: Planted
) -> None:
    page = context.new_page()
    page.goto(f"http://evil.test:{planted.port}/")
    page.evaluate(
        "(url) => document.body.append(Object.assign(document.createElement('iframe'), {src: url}))",
        served.url,
    )
    page.wait_for_load_state("networkidle")
    assert not any(frame.url.startswith(served.url) for frame in page.frames)

    with page.expect_popup() as popup:
        page.evaluate("(url) => { window.shown = window.open(url) }", served.url)
    popup.value.wait_for_load_state()
    assert page.evaluate(
        "(() => { try { return shown.document.title } catch (error) { return error.name } })()"
    ) == ("SecurityError")


@pytest.mark.parametrize("served", [False], indirect=True, ids=["open"])
def test_a_name_that_was_rebound_to_this_machine_gets_nothing(browser: Browser, served: Served) -> None:
    """The attacker's page is then of the same origin as the service for the browser."""
    before = visible_state(served)
    context = browser.new_context()
    page = context.new_page()
    evil = served.url.replace("127.0.0.1", "evil.test")
    response = page.goto(evil)
    assert response is not None
    assert response.status == 421
    assert page.evaluate(STATUSES, {"reads": READS, "writes": WRITES}) == [421] * len(READS + WRITES)
    assert page.evaluate(EVENTS) == "error"
    assert visible_state(served) == before
    context.close()


@pytest.mark.parametrize("served", [True], indirect=True, ids=["signed in"])
def test_with_tokens_a_rebound_name_has_no_session(context: BrowserContext, served: Served) -> None:
    before = visible_state(served)
    page = context.new_page()
    page.goto(served.url.replace("127.0.0.1", "evil.test"))
    reads, writes = READS[1:], [path for path in WRITES if not path.endswith(("login", "logout"))]
    assert page.evaluate(STATUSES, {"reads": reads, "writes": writes}) == [401] * len([*reads, *writes])
    assert visible_state(served) == before


EVENTS = """new Promise((done) => {
  const events = new EventSource("/api/v1/events");
  events.onopen = () => done("open");
  events.onerror = () => done("error");
})"""
STATUSES = """async ({reads, writes}) => {
  const all = [...reads.map((path) => [path, "GET"]), ...writes.map((path) => [path, "POST"])];
  const headers = { "content-type": "application/json" };
  const statuses = [];
  for (const [path, method] of all) {
    const body = method === "POST" ? "[]" : undefined;
    statuses.push((await fetch(path, { method, headers, body, signal: AbortSignal.timeout(60000) })).status);
  }
  return statuses;
}"""


def test_pages_cannot_read_the_metrics_of_a_process(
    browser: Browser, planted: Planted, metered: Metered
) -> None:
    server = llm_exporter.start_http_server(0)
    context = browser.new_context()
    try:
        page = context.new_page()
        response = page.goto(f"http://evil.test:{server.port}/metrics")
        assert response is not None
        assert response.status == 421
        page.goto(f"http://evil.test:{planted.port}/")
        read = "(url) => fetch(url).then((response) => response.text(), (error) => error.name)"
        assert page.evaluate(read, f"http://127.0.0.1:{server.port}/metrics") == "TypeError"
    finally:
        context.close()
        server.close()
