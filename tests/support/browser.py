"""The Chromium that tests open pages in, if one is installed."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
IN_CHROMIUM = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on PATH")
"""Marks tests that need Chromium. CI has it."""

CONTRASTS = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = rgb(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter(
    (one) =>
      one.checkVisibility() &&
      [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()),
  );
  return texts
    .map((one) => {
      const both = [light(rgb(getComputedStyle(one).color)), light(ground(one))];
      const [dark, bright] = both.sort((a, b) => a - b);
      return [one.outerHTML.slice(0, 80), (bright + 0.05) / (dark + 0.05)];
    })
    .filter(([, contrast]) => contrast < 4.5);
}"""
"""Returns the texts on a page whose contrast is below 4.5, as WCAG 2.2 AA requires."""

CUT = """(root) => {
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const cut = [];
  while (walker.nextNode()) {
    const text = walker.currentNode;
    if (!text.data.trim() || !text.parentElement.checkVisibility()) continue;
    const range = document.createRange();
    range.selectNodeContents(text);
    const { left, right } = range.getBoundingClientRect();
    for (let box = text.parentElement; box; box = box.parentElement) {
      if (getComputedStyle(box).overflowX !== "visible") {
        const { left: from, right: to } = box.getBoundingClientRect();
        if (left < from - 1 || right > to + 1 || box.scrollWidth > box.clientWidth + 1) {
          cut.push(text.data.trim());
          break;
        }
      }
      if (box === root) break;
    }
  }
  return cut;
}"""
"""Returns the texts in an element that a box around them cuts, with or without an ellipsis."""
