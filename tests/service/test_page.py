"""The live page in a real Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from llm_exporter import Call
from support.browser import CONTRASTS, IN_CHROMIUM
from support.calls import a_call
from support.served import Served, post, send

SECOND = 1000.0
"""In milliseconds, like the timeouts of Playwright."""

pytestmark = IN_CHROMIUM


def test_a_call_appears_without_a_reload(
    served: Served, open_page: Any, figure: Callable[[str], None]
) -> None:
    """From another process, which ships it, through the ledger to the page."""
    page = open_page()
    expect(page.locator("#empty")).to_be_visible()
    program = """
import sys, llm_exporter
llm_exporter.instrument()
sys.stdin.readline()
with llm_exporter.labels(agent="planner", phase="plan"):
    llm_exporter.record(provider="openai", model="gpt-4o", tokens={"input": 1000}, duration=1)
print("made", flush=True)
sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=served.client_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("now\n")
        process.stdin.flush()
        assert process.stdout.readline() == "made\n"
        made = time.monotonic()
        row = page.locator("#recent tr").first
        expect(row).to_contain_text("planner")
        took = time.monotonic() - made
        process.stdin.write("end\n")
    figure(f"shown {took:.2f} s after the call")
    expect(row).to_contain_text("$0.002500")
    expect(page.locator("#today")).to_have_text("$0.002500")
    expect(page.locator("#bars-agent li")).to_have_text("planner1,000 tokens$0.002500 (100 %)")
    expect(page.locator("#empty")).to_be_hidden()


def test_an_alert_can_be_dismissed_and_disappears_when_it_is_resolved(served: Served, open_page: Any) -> None:
    page = open_page()
    alert = {
        "status": "firing",
        "labels": {"alertname": "LLMCostHigh", "severity": "critical"},
        "annotations": {"summary": "The planner spends too much", "description": "It is at $12 an hour."},
        "fingerprint": "f",
    }
    for _ in range(2):
        post(served, "/api/v1/alerts", {"alerts": [alert]})
    shown = page.locator("#alerts .alert")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text("critical: The planner spends too much It is at $12 an hour.")
    dismiss = page.get_by_role("button", name="Dismiss: The planner spends too much")
    dismiss.focus()
    page.keyboard.press("Enter")
    expect(shown).to_have_count(0)
    post(served, "/api/v1/alerts", {"alerts": [alert]})
    expect(shown).to_have_count(1)
    post(served, "/api/v1/alerts", {"alerts": [{**alert, "status": "resolved"}]})
    expect(shown).to_have_count(0)


def test_bars_are_sorted_and_depend_on_the_window_and_the_label(served: Served, open_page: Any) -> None:
    send(
        served,
        a_call(labels={"agent": "planner", "tier": "gold"}, started=time.time() - 7200),
        a_call(labels={"agent": "coder", "tier": "silver"}, cost={"input": 3.0}),
        a_call(labels={"agent": "reviewer", "tier": "gold"}),
    )
    page = open_page()
    page.get_by_label("Time range").select_option("1h")
    expect(page.locator("#bars-agent .name")).to_have_text(["coder", "reviewer"])
    expect(page.locator("#bars-agent .value")).to_have_text(["$3.00 (80 %)", "$0.7500 (20 %)"])
    expect(page.locator("#bars-label .name")).to_have_text(["silver", "gold"])
    page.get_by_label("Time range").select_option("session")
    expect(page.locator("#bars-label .value")).to_have_text(["$3.00 (67 %)", "$1.50 (33 %)"])
    send(served, *(a_call(labels={"agent": "planner", "tier": "gold"}) for _ in range(5)))
    expect(page.locator("#bars-agent .name")).to_have_text(["planner", "coder", "reviewer"])
    expect(page.locator("#bars-label .name")).to_have_text(["gold", "silver"])


def test_alternating_sessions_do_not_cause_a_request_per_call(served: Served, open_page: Any) -> None:
    """The latest call's session is the current one, so it changes with every call."""
    requests: list[str] = []
    page = open_page(lambda page: page.on("request", lambda request: requests.append(request.url)))
    requests.clear()
    for number in range(20):
        send(served, a_call(labels={"agent": "coder", "session": f"s-{number % 2}"}))
    expect(page.locator("#recent tr")).to_have_count(20)
    expect(page.locator("#today")).to_have_text("$15.00")
    expect(page.locator("#bars-agent .value")).to_have_text("$15.00 (100 %)")
    assert sum(url.endswith("/budgets") for url in requests) <= 2
    expect(page.locator("#session")).to_have_text("s-1")
    expect(page.locator("#session-cost")).to_have_text("$7.50")


def test_a_call_during_the_first_request_is_shown(served: Served, open_page: Any) -> None:
    def late(route: Route) -> None:
        answer = route.fetch()
        if not sent:
            sent.append(a_call())
            send(served, *sent)
        route.fulfill(response=answer)

    sent: list[Call] = []
    page = open_page(lambda page: page.route("**/api/v1/cost*", late))
    expect(page.locator("#calls")).to_have_text("1")


def test_a_late_response_does_not_replace_a_newer_one(served: Served, open_page: Any) -> None:
    send(served, a_call(started=time.time() - 7200), a_call())
    page = open_page()
    page.get_by_label("Time range").select_option("session")
    expect(page.locator("#calls")).to_have_text("2")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/api/v1/budgets", hold, times=1)
    with page.expect_request("**/api/v1/budgets"):
        page.get_by_label("Time range").select_option("1h")
    with page.expect_response("**/api/v1/budgets"):
        page.get_by_label("Time range").select_option("session")
    (first,) = held
    with page.expect_event("requestfinished", lambda request: request == first.request):
        first.continue_()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.locator("#calls")).to_have_text("2")


def test_totals_change_with_time_although_no_calls_arrive(served: Served, open_page: Any) -> None:
    evening = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)
    send(served, a_call(started=evening.timestamp() - 1800))
    page = open_page(lambda page: page.clock.install(time=evening))
    for shown in ("#today", "#cost"):
        expect(page.locator(shown)).to_have_text("$0.7500")
    page.clock.fast_forward("02:00")
    for shown in ("#today", "#cost"):
        expect(page.locator(shown)).to_have_text("$0.00")
    page.get_by_label("Time range").select_option("1h")
    expect(page.locator("#cost")).to_have_text("$0.7500")
    page.clock.fast_forward("30:00")
    expect(page.locator("#cost")).to_have_text("$0.00")


def test_an_error_response_is_shown_until_the_next_success(served: Served, open_page: Any) -> None:
    send(served, a_call())
    page = open_page()
    page.route("**/api/v1/calls*", lambda route: route.fulfill(status=503))
    page.get_by_label("Time range").select_option("1h")
    expect(page.locator("#state")).to_have_text(re.compile(r"^api/v1/calls\?since=\S+&limit=50: HTTP 503$"))
    page.unroute("**/api/v1/calls*")
    expect(page.locator("#state")).to_have_text("Live")


BUDGET = {
    "budget": "coder-daily",
    "period": "day",
    "labels": {"agent": "coder"},
    "unit": "usd",
    "limit": 1.0,
    "spent": 0.4,
    "left": 0.6,
    "on_exceed": "warn",
    "resets_at": "2026-02-01T00:00:00.000Z",
}
BUDGETS = {
    "budgets": [
        BUDGET,
        {**BUDGET, "budget": "all", "period": "month", "labels": {}, "on_exceed": "block", "spent": 1.25},
        {**BUDGET, "budget": "tokens", "unit": "tokens", "limit": 2000, "spent": 1500, "resets_at": None},
    ]
}


def with_budgets(page: Page) -> None:
    page.route("**/api/v1/budgets", lambda route: route.fulfill(json=BUDGETS))


def test_budgets_show_how_much_is_left(served: Served, open_page: Any) -> None:
    page = open_page(with_budgets)
    budgets = page.get_by_role("region", name="Budgets")
    expect(budgets.locator("li .name")).to_have_text(["coder-daily", "all", "tokens"])
    expect(budgets.locator("li .value")).to_have_text(
        ["$0.6000 of $1.00 left", "$0.2500 over $1.00", "500 of 2,000 tokens left"]
    )
    expect(budgets.locator("li .small")).to_have_text(
        [
            "day · agent coder · warns only · resets 2026-02-01 00:00 UTC",
            "month · blocks calls · resets 2026-02-01 00:00 UTC",
            "day · agent coder · warns only",
        ]
    )
    expect(open_page().locator("#budgets")).to_be_hidden()


@pytest.mark.parametrize(
    "served",
    ["budgets: [{name: planner-all, period: total, usd: 1, match: {agent: planner}, on_exceed: block}]"],
    indirect=True,
)
def test_a_budget_is_updated_and_using_it_up_causes_an_alert(served: Served, open_page: Any) -> None:
    page = open_page()
    budgets = page.get_by_role("region", name="Budgets")
    expect(budgets.locator("li .value")).to_have_text(["$1.00 of $1.00 left"])
    send(served, a_call(id="c-1"))
    expect(budgets.locator("li .value")).to_have_text(["$0.2500 of $1.00 left"])
    expect(page.locator("#alerts")).to_be_empty()
    send(served, a_call(id="c-2"))
    expect(budgets.locator("li .value")).to_have_text(["$0.5000 over $1.00"])
    expect(page.locator("#alerts .alert p")).to_have_text(
        ["critical: budget planner-all (agent planner) is used up $1.50 of $1.00 in total"]
    )
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#alerts")).to_be_empty()


@pytest.mark.parametrize(
    ("link", "name"), [("Calls as CSV", "llm-calls.csv"), ("Calls as JSON", "llm-calls.json")]
)
def test_calls_are_downloaded(served: Served, open_page: Any, link: str, name: str) -> None:
    send(served, a_call(id="c-1"))
    page = open_page()
    with page.expect_download() as download:
        page.get_by_role("link", name=link).click()
    assert download.value.suggested_filename == name
    assert "c-1" in Path(download.value.path()).read_text()


def test_a_session_can_be_reset(served: Served, open_page: Any) -> None:
    send(served, a_call(labels={"session": "s-1"}))
    page = open_page()
    expect(page.locator("#session")).to_have_text("s-1")
    expect(page.locator("#session-cost")).to_have_text("$0.7500")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Reset session").click()
    expect(page.locator("#session-cost")).to_have_text("$0.00")


def test_labels_are_shown_as_text_and_never_as_markup(served: Served, open_page: Any) -> None:
    evil = "<img src=x onerror=document.title='owned'>"
    labels = {"agent": evil, "phase": evil, "session": evil, evil: evil}
    send(served, a_call(labels=labels, model=evil, operation=evil, provider=evil))
    page = open_page()
    page.get_by_text("Chart as a table").click()
    page.get_by_role("heading", name="Sessions").click()
    expect(page.locator("#session-rows .name")).to_have_text(evil)
    page.get_by_role("combobox", name="Stacked by").select_option(evil)
    expect(page.locator("#chart-legend .name")).to_have_text(evil)
    for bars in ("agent", "phase", "label"):
        page.locator(f"#bars-{bars} .name").click()
    expect(page.locator("#filters .name")).to_have_text([evil] * 3)
    expect(page.locator("#calls")).to_have_text("1")
    post(served, "/api/v1/alerts", {"alerts": [{"status": "firing", "labels": {"alertname": evil}}]})
    expect(page.locator("#alerts strong")).to_have_text(f"warning: {evil}")
    for bars, names in (("agent", [evil]), ("phase", [evil]), ("model", [evil] * 2), ("label", [evil])):
        expect(page.locator(f"#bars-{bars} .name")).to_have_text(names)
    expect(page.locator("#session")).to_have_text(evil)
    assert page.locator("img").count() == 0
    assert page.title() == "llm-exporter"


def test_failed_and_unpriced_calls_are_marked(served: Served, open_page: Any) -> None:
    send(served, a_call(error="timeout", cost={"input": 0.0}), a_call(model="zebra-9", cost={}))
    page = open_page()
    expect(page.locator("#recent tr").first).to_contain_text("no price")
    expect(page.locator("#recent tr").last).to_contain_text("Error: timeout")
    expect(page.locator("#unpriced")).to_have_text("120 tokens have no known price.")


def test_approximate_and_unknown_costs_are_marked(served: Served, open_page: Any) -> None:
    page = open_page()
    no_usage: dict[str, Any] = {"tokens": {}, "cost": {}, "usage_reported": False}
    unread = {**no_usage, "model": "", "operation": "unread", "route": "POST /v1/things/{id}"}
    failed = {**no_usage, "error": "timeout"}
    for reload in (False, True):
        send(served, a_call(approximated={"tier": 120, "fee": 1}, id="c-1"), a_call(**unread, id="c-2"))
        send(served, a_call(**no_usage, id="c-3"), a_call(**failed, id="c-4"))
        if reload:
            page = open_page()
        costs = page.locator("#recent tr td:nth-child(8)")
        expect(costs).to_have_text(["$0.00", "unknown", "unknown", "≈ $0.7500"])
        expect(costs.nth(0)).to_have_class("cost number")
        expect(costs.nth(1)).to_have_attribute("title", "The provider reported no usage")
        expect(costs.nth(2)).to_have_attribute("title", "llm-exporter cannot read the response")
        expect(costs.nth(3)).to_have_attribute("title", "Approximate, because of: tier, fee")
        expect(costs.nth(3)).to_have_class("cost number warn")
        operations = page.locator("#recent tr td:nth-child(5)")
        expect(operations.nth(2)).to_have_text("unread: POST /v1/things/{id}")
        expect(page.locator("#approximated")).to_have_text("120 tokens have an approximate cost.")
        expect(page.locator("#bars-model .name")).to_have_text(["openai", "gpt-5", "no model"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_has_enough_contrast(served: Served, open_page: Any, scheme: str) -> None:
    """No horizontal scrolling at 320 pixels, and a contrast of at least 4.5 for all text (WCAG 2.2 AA)."""
    send(
        served,
        a_call(error="timeout"),
        a_call(model="zebra-9-with-a-long-name", cost={}),
        a_call(approximated={"tier": 120}),
        a_call(operation="unread", tokens={}, cost={}, route="POST /v1/things/{id}"),
    )
    alert = {"status": "firing", "labels": {"alertname": "A"}, "annotations": {}}
    page = open_page(with_budgets, viewport={"width": 320, "height": 640}, color_scheme=scheme)
    for severity in ("warning", "critical"):
        labels = {"alertname": severity, "severity": severity}
        post(served, "/api/v1/alerts", {"alerts": [{**alert, "labels": labels}]})
    expect(page.locator(".alert")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert page.evaluate(CONTRASTS) == []


def test_every_control_has_a_name_and_is_reachable_by_keyboard(served: Served, open_page: Any) -> None:
    send(served, a_call(labels={"tier": "gold"}))
    page = open_page()
    expect(page.locator("#label")).to_be_visible()
    for role, name in (
        ("combobox", "Time range"),
        ("combobox", "Stacked by"),
        ("searchbox", "Search calls"),
        ("checkbox", "Failed only"),
        ("list", "Legend"),
        ("combobox", "Label"),
        ("button", "Reset session"),
        ("link", "/metrics"),
        ("region", "Table of recent calls"),
        ("table", "Calls in the time range, newest first"),
    ):
        expect(page.get_by_role(role, name=name, exact=True)).to_be_visible()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"/metrics", "API", "reset", "window", "stack", "Chart as a table", "label", "Sessions"} <= reached
    assert {"gpt-5", "unattributed", "gold", "search", "failed", "calls-as-csv", "calls-as-json"} <= reached


def test_the_page_reconnects_to_a_restarted_service(served: Served, open_page: Any) -> None:
    page = open_page()
    served.kill()
    expect(page.locator("#state")).to_have_text("Reconnecting…")
    served.start()
    send(served, a_call())
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#calls")).to_have_text("1")
