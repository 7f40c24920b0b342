// The controls: the time range, filters, and what lists and the chart are by.

import { byId, make, nameOf, replaceChildren } from "./dom.js";
import { change, selection, toggle } from "./selection.js";
import { shownLabel, state } from "./state.js";

const SEARCH_DELAY = 300;

export function showControls() {
  const { window, match, search, failed, stack, since, until } = selection;
  const by = shownLabel();
  byId("custom").hidden = byId("custom").disabled = window !== "custom";
  byId("custom").textContent = `${text(since) || "…"} – ${text(until) || "now"}`;
  byId("window").value = window;
  byId("failed").checked = failed;
  if (document.activeElement !== byId("search")) byId("search").value = search;
  const names = [...new Set([...state.labels, by])].filter(Boolean);
  setOptions(byId("label"), names);
  byId("label").value = by;
  setOptions(byId("stack"), ["model", "agent", "phase", "provider", ...new Set([...names, stack])]);
  byId("stack").value = stack;
  byId("by-label-card").hidden = !names.length;
  const chips = Object.entries(match).map(([name, value]) => chip(name, value));
  replaceChildren(byId("filters"), ...chips);
  byId("filters").hidden = !chips.length;
}

const text = (moment) => moment !== null && new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });

function setOptions(select, names) {
  const known = [...select.options].map((option) => option.value);
  for (const name of new Set(names)) if (!known.includes(name)) select.append(new Option(name, name));
}

function chip(name, value) {
  const button = make("button", "chip");
  button.type = "button";
  button.setAttribute("aria-label", `Remove the filter ${name}: ${value}`);
  button.append(make("span", "quiet", `${name}: `), nameOf(value), make("span", "", " ×"));
  button.addEventListener("click", () => toggle(name, value));
  return button;
}

byId("window").addEventListener("change", ({ target }) => change({ window: target.value }));
byId("stack").addEventListener("change", ({ target }) => change({ stack: target.value }));
byId("label").addEventListener("change", ({ target }) => change({ by: target.value }));
byId("failed").addEventListener("change", ({ target }) => change({ failed: target.checked }));
byId("search-form").addEventListener("submit", (event) => event.preventDefault());
let timer = 0;
byId("search").addEventListener("input", ({ target }) => {
  clearTimeout(timer);
  timer = setTimeout(() => change({ search: target.value.trim() }, { replace: true }), SEARCH_DELAY);
});
