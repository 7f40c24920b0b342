"""The live page shows where the money goes: the chart, lists, filters and calls, in a real Chromium."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, expect

from llm_exporter import Call
from support.browser import CONTRASTS, IN_CHROMIUM
from support.calls import a_call
from support.served import Served, send

pytestmark = IN_CHROMIUM

NOON = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
LONG = "research-agent-for-the-quarterly-financial-report-of-business-unit-"


def at(text: str) -> float:
    return datetime.fromisoformat(f"2026-01-{text}+00:00").timestamp()


def at_noon(page: Page) -> None:
    """Let the browser's clock say half past twelve on 31 January 2026."""
    page.clock.install(time=NOON)


def opened_at_noon(open_page: Any, path: str = "/", **options: Any) -> Page:
    page: Page = open_page(at_noon, path, timezone_id="UTC", **options)
    return page


def of_many_agents(**fields: Any) -> list[Call]:
    """Return calls of 200 agents. The first costs $0.25, the second $0.50 and so on: $5,025 in total."""
    return [
        a_call(labels={"agent": f"{LONG}{number:03}"}, cost={"input": number / 4}, **fields)
        for number in range(1, 201)
    ]


def parameters(page: Page) -> dict[str, list[str]]:
    """Return those of the page's URL."""
    return parse_qs(urlsplit(page.url).query)


def test_what_is_beyond_the_twelve_most_expensive_is_summed_up(served: Served, open_page: Any) -> None:
    """$5,025 - 12 x ($47.25 + $50) / 2 = $4,441.50, and 188 x 120 tokens."""
    send(served, *of_many_agents())
    page = open_page()
    agents = page.locator("#bars-agent li")
    expect(agents).to_have_count(13)
    expect(agents.first).to_have_text(f"{LONG}200120 tokens$50.00 (1 %)")
    expect(agents.nth(11)).to_have_text(f"{LONG}189120 tokens$47.25 (1 %)")
    expect(agents.last).to_have_text("and 188 more22.6K tokens$4,441.50 (88 %)")
    page.get_by_role("button", name="and 188 more").click()
    expect(page.locator("#bars-agent .name")).to_have_count(200)
    page.get_by_role("button", name="Show the first 12").press("Enter")
    expect(agents).to_have_count(13)


def test_models_are_grouped_by_provider(served: Served, open_page: Any) -> None:
    send(
        served,
        a_call(),
        a_call(model="gpt-5-mini", cost={"input": 0.25}),
        a_call(provider="anthropic", model="claude-opus", cost={"input": 3.0}),
        a_call(provider="azure", cost={"input": 0.5}),
    )
    page = open_page()
    expect(page.locator("#bars-model li")).to_have_text(
        [
            "anthropic120 tokens$3.00 (67 %)",
            "claude-opus120 tokens$3.00 (67 %)",
            "openai240 tokens$1.00 (22 %)",
            "gpt-5120 tokens$0.7500 (17 %)",
            "gpt-5-mini120 tokens$0.2500 (6 %)",
            "azure120 tokens$0.5000 (11 %)",
            "gpt-5120 tokens$0.5000 (11 %)",
        ]
    )
    page.locator("#bars-model .group .pick").first.click()
    expect(page.locator("#cost")).to_have_text("$3.00")
    expect(page.locator("#bars-model li")).to_have_count(2)


def test_the_chart_has_the_cost_of_each_hour_stacked_by_any_dimension(served: Served, open_page: Any) -> None:
    """At 10 h $3 by the coder and $1 by the planner, at 12 h $0.75 by the planner, yesterday $9."""
    send(
        served,
        a_call(started=at("31T10:00:00"), labels={"agent": "coder", "team": "red"}, cost={"input": 3.0}),
        a_call(started=at("31T10:59:59"), cost={"input": 1.0}, model="gpt-5-mini"),
        a_call(started=at("31T12:10:00")),
        a_call(started=at("30T23:59:59"), cost={"input": 9.0}),
    )
    page = opened_at_noon(open_page, viewport={"width": 1366, "height": 900}, color_scheme="light")
    expect(page.locator("#chart-title")).to_have_text("Cost by hour")
    legend = page.locator("#chart-legend li")
    expect(legend).to_have_text(["gpt-5$3.75 (79 %)", "gpt-5-mini$1.00 (21 %)"])
    page.get_by_role("combobox", name="Stacked by").select_option("agent")
    expect(legend).to_have_text(["coder$3.00 (63 %)", "planner$1.75 (37 %)"])
    expect(page.locator("#chart-when")).to_have_text("$4.75 · 360 tokens · 3 calls")
    expect(page.get_by_role("img", name="Cost by hour, stacked by agent: $4.75.")).to_be_visible()

    page.get_by_text("Chart as a table").click()
    rows = page.locator("#chart-rows tr")
    expect(rows).to_have_count(13)
    expect(rows.nth(10)).to_have_text("31 Jan, 10:00$4.002402")
    expect(rows.nth(11)).to_have_text("31 Jan, 11:00$0.0000")
    expect(rows.nth(12)).to_have_text("31 Jan, 12:00$0.75001201")

    # The scale ends at 1.05 x $4: the coder's $3 reach 71 % of the height, and the planner's $1 end at 95 %.
    blue, orange, transparent = [47, 111, 179, 255], [194, 87, 26, 255], 0
    assert color_at(page, 10.4, 0.4) == blue
    assert color_at(page, 10.4, 0.85) == orange
    assert color_at(page, 10.4, 0.98)[3] == transparent
    assert color_at(page, 11.4, 0.03)[3] == transparent
    assert color_at(page, 12.4, 0.1) == orange

    page.get_by_role("combobox", name="Stacked by").select_option("team")
    expect(legend).to_have_text(["red$3.00 (63 %)", "unattributed$1.75 (37 %)"])
    assert parameters(page) == {"stack": ["team"]}


def color_at(page: Page, bar: float, height: float) -> Any:
    """Return the color of a pixel of a chart with 13 bars, at a share of its height."""
    return page.locator("#chart").evaluate(PIXEL, [bar / 13, height])


PIXEL = """(chart, [x, y]) => {
  const canvas = chart.querySelector("canvas");
  const area = chart.querySelector(".u-over");
  const scale = canvas.width / canvas.clientWidth;
  const left = (area.offsetLeft + x * area.clientWidth) * scale;
  const top = (area.offsetTop + (1 - y) * area.clientHeight) * scale;
  return [...canvas.getContext("2d").getImageData(left, top, 1, 1).data];
}"""


def test_the_chart_shows_a_bar_and_leads_into_it(served: Served, open_page: Any) -> None:
    send(served, a_call(started=at("31T10:20:30"), cost={"input": 3.0}), a_call(started=at("31T12:10:00")))
    page = opened_at_noon(open_page)
    area = page.locator("#chart .u-over").bounding_box()
    assert area is not None
    page.mouse.move(area["x"] + area["width"] * 10.8 / 13, area["y"] + area["height"] / 2)
    expect(page.locator("#chart-when")).to_have_text("31 Jan, 10:00: $3.00 · 120 tokens · 1 call")
    expect(page.locator("#chart-legend .value")).to_have_text("$3.00 (100 %)")
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#cost")).to_have_text("$3.00")
    assert parameters(page) == {"since": ["2026-01-31T10:00:00.000Z"], "until": ["2026-01-31T11:00:00.000Z"]}
    expect(page.locator("#chart-title")).to_have_text("Cost by minute")
    expect(page.locator("#window option:checked")).to_have_text(
        re.compile("31 Jan 2026, 10:00 . 31 Jan 2026, 11:00")
    )
    page.get_by_text("Chart as a table").click()
    expect(page.locator("#chart-rows tr")).to_have_count(60)
    page.get_by_role("button", name="31 Jan, 10:20").press("Enter")
    expect(page.locator("#chart-rows tr")).to_have_text(["31 Jan, 10:20$3.001201"])
    page.go_back()
    page.go_back()
    expect(page.locator("#cost")).to_have_text("$3.75")
    assert parameters(page) == {}


def of_age(hours: float, session: str, cost: float) -> dict[str, Any]:
    started = NOON.timestamp() - hours * 3600
    return {"started": started, "labels": {"session": session}, "cost": {"input": cost}}


@pytest.mark.parametrize(
    ("window", "cost", "step", "bars"),
    [
        ("1h", "$1.00", "minute", 61),
        ("24h", "$3.00", "hour", 25),
        ("7d", "$7.00", "day (UTC)", 8),
        ("30d", "$15.00", "day (UTC)", 31),
        ("month", "$16.00", "day (UTC)", 31),
        ("session", "$16.00", "day (UTC)", 31),
        ("all", "$47.00", "month (UTC)", 13),
    ],
)
def test_time_ranges(served: Served, open_page: Any, window: str, cost: str, step: str, bars: int) -> None:
    """Calls of the current session are up to 721 hours old. Another session is of last year."""
    current = {721: 1.0, 240: 8.0, 48: 4.0, 2: 2.0, 0.5: 1.0}
    calls = [
        a_call(**of_age(24 * 365, "s-0", 31.0)),
        *(a_call(**of_age(age, "s-1", current[age])) for age in current),
    ]
    send(served, *calls)
    page = opened_at_noon(open_page, f"/?window={window}")
    expect(page.locator("#cost")).to_have_text(cost)
    expect(page.locator("#chart-title")).to_have_text(f"Cost by {step}")
    expect(page.locator("#chart-when")).to_contain_text(f"{cost} · ")
    page.get_by_text("Chart as a table").click()
    expect(page.locator("#chart-rows tr")).to_have_count(bars)
    expect(page.get_by_label("Time range")).to_have_value(window)


def test_new_calls_are_in_the_chart_at_once(served: Served, open_page: Any) -> None:
    send(served, *(a_call(model=f"model-{number}") for number in range(9)))
    page = open_page(path="/?window=1h")
    legend = page.locator("#chart-legend li")
    expect(legend).to_have_count(9)
    expect(legend.last).to_have_text("others$0.7500 (11 %)")
    held: list[str] = []
    page.route("**/api/v1/report*", lambda route: held.append(route.request.url))
    new = a_call(model="model-new", cost={"input": 2.0})
    send(served, new, a_call(model="model-0", cost={"input": 1.25}))
    expect(legend.first).to_have_text("model-0$2.00 (20 %)")
    expect(legend.last).to_have_text("others$2.75 (28 %)")


def test_the_url_has_the_selection(served: Served, open_page: Any) -> None:
    """As a dashboard links to it. Grafana has milliseconds."""
    odd = "a,b:c\\d"
    send(
        served,
        a_call(started=at("31T10:00:00"), labels={"agent": "planner", "team": odd}),
        a_call(started=at("31T11:00:00"), labels={"agent": "planner", "team": "red"}, cost={"input": 2.0}),
        a_call(started=at("31T10:00:00"), labels={"agent": "coder", "team": odd}, cost={"input": 4.0}),
    )
    path = f"/?agent=planner&since={at('31T09:00:00') * 1000:.0f}&until=2026-01-31T10:30:00Z"
    page = opened_at_noon(open_page, path)
    expect(page.locator("#cost")).to_have_text("$0.7500")
    expect(page.locator("#recent tr")).to_have_count(1)
    expect(page.locator("#filters button")).to_contain_text("agent: planner")
    expect(page.locator("#bars-agent .pick")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Remove the filter agent: planner").click()
    expect(page.locator("#cost")).to_have_text("$4.75")
    page.get_by_label("Time range").select_option("today")
    expect(page.locator("#cost")).to_have_text("$6.75")
    page.locator("#bars-label").get_by_role("button", name=odd).click()
    expect(page.locator("#cost")).to_have_text("$4.75")
    assert parameters(page) == {"label": ["team:a\\,b\\:c\\\\d"]}
    page.reload()
    expect(page.locator("#cost")).to_have_text("$4.75")
    page.locator("#recent").get_by_role("button", name="coder").click()
    expect(page.locator("#cost")).to_have_text("$4.00")
    assert parameters(page) == {"label": ["team:a\\,b\\:c\\\\d"], "agent": ["coder"]}
    expect(page.get_by_role("link", name="Calls as CSV")).to_have_attribute("href", re.compile("agent=coder"))
    page.go_back()
    expect(page.locator("#cost")).to_have_text("$4.75")


def test_a_link_of_grafana_has_a_label_of_any_value(served: Served, open_page: Any) -> None:
    """Grafana cannot put backslashes into `label=name:value,…`."""
    odd = "a,b:c\\d&e"
    send(
        served,
        a_call(labels={"team": odd, "tier": "gold"}),
        a_call(labels={"team": odd, "tier": "silver"}, cost={"input": 2.0}),
        a_call(labels={"team": "a", "tier": "gold"}, cost={"input": 4.0}),
    )
    page = open_page(path=f"/?label.team={quote(odd)}&label.tier=gold")
    expect(page.locator("#cost")).to_have_text("$0.7500")
    expect(page.locator("#filters button")).to_contain_text([f"team: {odd}", "tier: gold"])


def test_calls_are_paged_searched_and_filtered_by_failure(served: Served, open_page: Any) -> None:
    started = time.time()
    send(
        served,
        *(
            a_call(id=f"c-{number:03}", labels={"agent": f"a-{number:03}"}, started=started)
            for number in range(120)
        ),
    )
    send(served, a_call(error="timeout", labels={"agent": "late", "team": "Blue"}))
    page = open_page()
    agents = page.locator("#recent .agent")
    expect(agents).to_have_count(50)
    expect(agents.first).to_have_text("late")
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()
    page.get_by_role("button", name="Older").click()
    expect(agents.first).to_have_text("a-070")
    page.get_by_role("button", name="Older").click()
    expect(agents).to_have_count(21)
    expect(agents.last).to_have_text("a-000")
    expect(page.locator("#page-number")).to_have_text("Page 3")
    expect(page.get_by_role("button", name="Older")).to_be_disabled()
    page.get_by_role("button", name="Newer").click()
    expect(agents.first).to_have_text("a-070")

    page.get_by_label("Search calls").fill("A-07")
    expect(agents).to_have_text([f"a-07{number}" for number in range(9, -1, -1)])
    expect(page.locator("#page-number")).to_have_text("Page 1")
    page.get_by_label("Search calls").fill("team:blue")
    expect(agents).to_have_text(["late"])
    expect(page.locator("#calls")).to_have_text("121")  # the search is for calls only
    page.get_by_label("Search calls").fill("")
    page.get_by_label("Failed only").check()
    expect(agents).to_have_text(["late"])
    page.get_by_label("Search calls").fill("nothing")
    expect(page.locator("#no-calls")).to_have_text("No calls")
    expect(page).to_have_url(f"{served.url}/?search=nothing&failed=true")


def test_sessions_have_costs_and_tokens_and_filter(served: Served, open_page: Any) -> None:
    send(
        served,
        a_call(labels={"session": "s-1"}, cost={"input": 3.0}),
        a_call(labels={"session": "s-2"}),
        a_call(labels={"session": "s-2"}, cost={"input": 0.25}),
    )
    page = open_page()
    page.locator("#sessions summary").press("Enter")
    rows = page.locator("#session-rows tr")
    expect(rows).to_have_text(["s-1$3.00 (75 %)1201", "s-2$1.00 (25 %)2402"])
    rows.last.get_by_role("button").click()
    expect(page.locator("#cost")).to_have_text("$1.00")
    expect(page.locator("#recent tr")).to_have_count(2)
    assert parameters(page) == {"session": ["s-2"]}


def test_a_session_that_is_gone_shows_no_calls(served: Served, open_page: Any) -> None:
    send(served, a_call())
    page = open_page(path="/?session=gone")
    expect(page.locator("#cost")).to_have_text("$0.00")
    expect(page.locator("#no-calls")).to_have_text("No calls")
    expect(page.locator("#bars-agent")).to_have_text("No calls")


@pytest.mark.parametrize(
    "served", ["budgets: [{name: daily, period: day, usd: 47.25, per: [agent]}]"], indirect=True
)
def test_budgets_of_a_rule_are_folded(served: Served, open_page: Any) -> None:
    """Agents 190 to 200 are over $47.25."""
    send(served, *of_many_agents())
    page = open_page()
    budgets = page.locator("#bars-budgets > li")
    expect(budgets.locator("summary")).to_have_text("daily200 budgets, 11 used up")
    expect(budgets.locator("> .small")).to_have_text(f"most used: agent {LONG}200, $2.75 over $47.25")
    inside = budgets.locator("details > ul > li")
    expect(inside.first).to_be_hidden()
    budgets.locator("summary").press("Enter")
    expect(inside).to_have_count(13)
    expect(inside.nth(11).locator(".value")).to_have_text("$0.00 of $47.25 left")
    expect(inside.last).to_have_text("and 188 more that are used less")
    send(served, a_call(id="another", labels={"agent": f"{LONG}189"}))  # $48 in total, so the twelfth is 190
    expect(budgets.locator("summary")).to_have_text("daily200 budgets, 12 used up")
    expect(inside.nth(11).locator(".value")).to_have_text("$0.2500 over $47.25")


@pytest.mark.parametrize("width", [1366, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_number_or_title_is_cut(served: Served, open_page: Any, width: int, scheme: str) -> None:
    """With 200 agents of long names, large numbers and everything open. Names are cut in the middle."""
    tokens = {"input": 123_456_789_012, "output": 9_876_543_210}
    big = a_call(
        labels={"agent": "big", "session": LONG, "team": LONG * 3},
        tokens=tokens,
        cost={"input": 98_765_432.1},
    )
    failed = a_call(error="invalid_request", model=LONG * 3, approximated={"tier": 120}, duration=1234.5)
    send(served, *of_many_agents(model=f"ft:gpt-4o:{LONG}"), big, failed)
    path = "/?window=24h&project=default&stack=agent"
    page = open_page(path=path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    for opened in ("#chart-table", "#sessions"):
        page.locator(f"{opened} > summary").click()
    expect(page.locator("#session-rows tr")).to_have_count(2)
    expect(page.locator("#bars-agent li")).to_have_count(13)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT) == []
    assert page.evaluate(CONTRASTS) == []

    name = page.locator("#bars-label .name", has_text=LONG)
    expect(name).to_have_attribute("title", LONG * 3)
    head, tail = name.locator(".head"), name.locator(".tail")
    assert head.evaluate("one => one.scrollWidth > one.clientWidth")
    expect(tail).to_have_text(LONG[-8:])


CUT = """() => {
  const shown = "h1, h2, h3, dt, dd, th, td, .value, .tokens, .number, .tail, .small, summary, #chart-when";
  return [...document.querySelectorAll(shown)]
    .filter((one) => one.checkVisibility() && one.textContent.trim())
    .filter((one) => !one.closest("thead, .hidden"))
    .filter((one) => {
      const frame = one.closest("section, .card, header").getBoundingClientRect();
      const { left, right } = one.getBoundingClientRect();
      const isCut = one.clientWidth > 0 && one.scrollWidth > one.clientWidth + 1;
      return isCut || left < frame.left || right > frame.right;
    })
    .map((one) => one.outerHTML.slice(0, 120));
}"""
"""Returns the numbers and titles that are wider than their place, or reach beyond their card."""


def test_on_a_phone_a_call_has_its_agent_model_and_cost(served: Served, open_page: Any) -> None:
    send(served, a_call(labels={"agent": LONG, "phase": "plan"}), a_call(error="timeout"))
    page = open_page(viewport={"width": 390, "height": 844})
    call = page.get_by_role("row").last
    for shown in ("agent", "model", "cost", "time", "status"):
        expect(call.locator(f".{shown}")).to_be_visible()
    for hidden in ("phase", "operation", "input", "output", "duration"):
        expect(call.locator(f".{hidden}")).to_be_hidden()
    expect(call.locator(".cost")).to_have_text("$0.7500")
    expect(call.get_by_role("cell")).to_have_count(5)
    agent, cost = (call.locator(f".{name}").bounding_box() for name in ("agent", "cost"))
    assert agent is not None
    assert cost is not None
    assert agent["y"] == cost["y"]
    assert cost["x"] + cost["width"] <= 390


def test_a_name_keeps_the_focus_when_calls_arrive(served: Served, open_page: Any) -> None:
    send(served, a_call(), a_call(labels={"agent": "coder"}, cost={"input": 0.25}))
    page = open_page()
    coder = page.locator("#bars-agent").get_by_role("button", name="coder")
    coder.focus()
    send(served, a_call(labels={"agent": "reviewer"}, cost={"input": 0.125}))
    expect(page.locator("#bars-agent li")).to_have_count(3)
    expect(coder).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#cost")).to_have_text("$0.2500")
    expect(coder).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Enter")
    expect(page.locator("#cost")).to_have_text("$1.13")
