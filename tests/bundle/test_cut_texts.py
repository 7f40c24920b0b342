"""What the browser test of the dashboards takes for cut is cut."""

from __future__ import annotations

import pytest
from playwright.sync_api import sync_playwright

from support.browser import CHROMIUM, CUT, FLAGS, IN_CHROMIUM

PAGES = {
    "fits": ("<div style='overflow: hidden; width: 200px'>$3,528.74</div>", []),
    "clipped": ("<div style='overflow: hidden; width: 40px'>$3,528.74</div>", ["$3,528.74"]),
    "ellipsis": (
        "<div style='overflow: hidden; text-overflow: ellipsis; white-space: nowrap; width: 40px'>"
        "<b>p95 latency</b></div>",
        ["p95 latency"],
    ),
    "wrapped": ("<div style='overflow: hidden; width: 40px'>a few short words</div>", []),
    "outside": (
        "<div style='overflow: hidden; width: 100px'><b style='margin-left: 80px'>$0.0064</b></div>",
        ["$0.0064"],
    ),
    "hidden": ("<div style='overflow: hidden; width: 9px; display: none'>$3,528.74</div>", []),
}


@IN_CHROMIUM
@pytest.mark.parametrize("name", PAGES)
def test_a_text_is_cut_if_a_box_around_it_does_not_show_all_of_it(name: str) -> None:
    html, expected = PAGES[name]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.set_content(f"<main>{html}</main>")
        cut = page.locator("main").evaluate(CUT)
        browser.close()

    assert cut == expected
