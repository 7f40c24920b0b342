// What the page shows: a time range, filters and a search. The URL has them, so that others can link to the page. Its
// parameters are those of the API: /?agent=planner&since=2026-01-31T12:00:00Z. A link of Grafana, which cannot put
// backslashes into `label`, has a parameter for each label: /?label.team=a,b

import { valueOf } from "./totals.js";

const HOUR = 3600e3;
const DAY = 24 * HOUR;
const SLIDING = { "1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY };
const WINDOWS = [...Object.keys(SLIDING), "today", "month", "session", "all"];
export const DIMENSIONS = ["provider", "model", "operation", "agent", "phase", "project", "session"];
const ONE_LABEL = "label.";
const FIRST_MILLISECONDS = 1e11; // larger numbers are not seconds: Grafana's ${__from} is in milliseconds

export const selection = {};
let changed = () => {};

// Call a function after each change of the selection.
export function onChange(listener) {
  changed = listener;
  addEventListener("popstate", () => {
    readUrl();
    changed();
  });
}

export function readUrl() {
  const url = new URLSearchParams(location.search);
  const [since, until] = [momentOf(url.get("since")), momentOf(url.get("until"))];
  let window = url.get("window");
  if (since !== null || until !== null) window = "custom";
  else if (!WINDOWS.includes(window)) window = url.get("session") ? "all" : "today";
  const match = {};
  for (const name of DIMENSIONS) if (url.get(name)) match[name] = url.get(name);
  Object.assign(match, labelsOf(url.get("label") ?? ""));
  for (const [name, value] of url) if (name.startsWith(ONE_LABEL) && value) match[name.slice(ONE_LABEL.length)] = value;
  const texts = { search: url.get("search") ?? "", stack: url.get("stack") ?? "model", by: url.get("by") ?? "" };
  Object.assign(selection, { window, since, until, match, failed: url.get("failed") === "true", ...texts });
}

// Change the selection, in a new entry of the browser's history unless an entry is to be replaced.
export function change(changes, { replace = false } = {}) {
  Object.assign(selection, changes);
  if (selection.window !== "custom") Object.assign(selection, { since: null, until: null });
  const query = urlOf(selection);
  history[replace ? "replaceState" : "pushState"](null, "", query ? `?${query}` : location.pathname);
  changed();
}

export const isSelected = (name, value) => selection.match[name] === value;

// Filter by a value of a dimension or label, or no longer if the page is filtered by it.
export function toggle(name, value) {
  const { [name]: current, ...others } = selection.match;
  change({ match: current === value ? others : { ...others, [name]: value } });
}

function urlOf({ window, since, until, match, search, failed, stack, by }) {
  const url = new URLSearchParams();
  if (window !== "custom" && window !== "today") url.set("window", window);
  setTimes(url, since, until);
  setMatch(url, match);
  if (search) url.set("search", search);
  if (failed) url.set("failed", "true");
  if (stack !== "model") url.set("stack", stack);
  if (by) url.set("by", by);
  return url.toString();
}

function setTimes(url, since, until) {
  if (since !== null) url.set("since", new Date(since).toISOString());
  if (until !== null) url.set("until", new Date(until).toISOString());
}

function setMatch(url, match) {
  const labels = [];
  for (const [name, value] of Object.entries(match)) {
    if (DIMENSIONS.includes(name)) url.set(name, value);
    else labels.push(`${escaped(name)}:${escaped(value)}`);
  }
  if (labels.length) url.set("label", labels.join(","));
}

const escaped = (text) => text.replace(/[\\,:]/g, "\\$&");

// Return the labels in `name:value,…`, where a backslash is before each comma, colon and backslash of a text.
function labelsOf(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/((?:[^\\,:]|\\.)+):((?:[^\\,]|\\.)+)/gs)) {
    labels[name.replace(/\\(.)/gs, "$1")] = value.replace(/\\(.)/gs, "$1");
  }
  return labels;
}

function momentOf(text) {
  if (!text) return null;
  const number = Number(text);
  const moment = Number.isNaN(number) ? Date.parse(text) : number < FIRST_MILLISECONDS ? number * 1e3 : number;
  return moment >= 0 && moment < 253402300800e3 ? moment : null;
}

export function startOf(window) {
  const now = new Date();
  if (SLIDING[window]) return now - SLIDING[window];
  const day = window === "month" ? 1 : now.getUTCDate();
  return Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), day);
}

// Return what is selected now: the start and the end in milliseconds or null, and values by dimension.
export function selectedNow(currentSession) {
  const { window, match } = selection;
  let { since, until } = selection;
  if (window === "session") return { since, until, match: { session: currentSession, ...match } };
  if (window === "all") since = match.session ? null : 0;
  else if (window !== "custom") since = startOf(window);
  else since ??= 0;
  return { since, until, match };
}

// Return the parameters of the API for what is selected.
export function parametersOf({ since, until, match }, more = {}) {
  const url = new URLSearchParams();
  setTimes(url, since, until);
  setMatch(url, match);
  for (const [name, value] of Object.entries(more)) if (value) url.set(name, value);
  return url;
}

export function includes({ since, until, match }, call) {
  const started = call.started * 1e3;
  if ((since !== null && started < since) || (until !== null && started >= until)) return false;
  return Object.entries(match).every(([name, value]) => valueOf(call, name) === value);
}

// ---- steps of the chart

export const STEPS = { minute: 60e3, hour: HOUR, day: DAY, month: 31 * DAY };

export function stepFor(length) {
  if (length <= 3 * HOUR) return "minute";
  if (length <= 3 * DAY) return "hour";
  return length <= 93 * DAY ? "day" : "month";
}

export function startOfStep(moment, step) {
  if (step !== "month") return Math.floor(moment / STEPS[step]) * STEPS[step];
  const date = new Date(moment);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
}

export function nextStep(start, step) {
  return step === "month" ? startOfStep(start + STEPS.month, step) : start + STEPS[step];
}
