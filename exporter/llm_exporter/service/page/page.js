// The live page: what the service reports for the selection, and the calls in /api/v1/events since.

import { showAlert } from "./alerts.js";
import { get, post } from "./api.js";
import { showBreakdown, showModels } from "./breakdowns.js";
import { showBudgets, updated } from "./budgets.js";
import { showCalls } from "./calls.js";
import { showChart } from "./chart.js";
import { showControls } from "./controls.js";
import { byId } from "./dom.js";
import { count, usd } from "./format.js";
import { CALLS, callsUrl, load } from "./loading.js";
import { DIMENSIONS, includes, onChange, readUrl, selectedNow, selection, startOf } from "./selection.js";
import { addCallToChart } from "./series.js";
import { showSessions } from "./sessions.js";
import "./sign_in.js";
import { shownLabel, state } from "./state.js";
import { showStatus } from "./status.js";
import { addCallTo, addCallToRows, valueOf } from "./totals.js";

const REFRESH_DELAY = 3e3;
const MAX_REFRESH_DELAY = 30e3;
const MINUTE = 60e3;

// ---- requests

let pages = [undefined]; // where the pages of calls begin, up to the one that is shown

// Only the latest request counts: the response to an earlier one may arrive later.
let latestRequest = 0;
let requestedAt = 0;
async function refresh() {
  const request = ++latestRequest;
  requestedAt = Date.now();
  try {
    const loaded = await load(pages.at(-1), byId("sessions").open);
    if (request !== latestRequest) return;
    Object.assign(state, loaded);
  } catch (error) {
    if (request !== latestRequest || !state.connected) return; // the page refreshes when it reconnects
    showStatus(error.message);
    refreshLater();
    return;
  }
  state.seen = new Set(state.calls.map((call) => call.id));
  showStatus();
  show();
  noteLabels(state.calls);
}

// Remember the names of labels that are no dimensions. The first one has a list, which the response did not have.
function noteLabels(calls) {
  const before = shownLabel();
  for (const call of calls) {
    for (const name of Object.keys(call.labels)) if (!DIMENSIONS.includes(name)) state.labels.add(name);
  }
  if (shownLabel() !== before) refresh();
}

// A call that arrives during a request may or may not be in the response. So refresh once no more calls arrive, or
// after a maximum delay.
let timer = 0;
let pendingSince = 0;
function refreshLater() {
  pendingSince ||= Date.now();
  if (timer && Date.now() - pendingSince < MAX_REFRESH_DELAY) clearTimeout(timer);
  else if (timer) return;
  timer = setTimeout(() => {
    timer = pendingSince = 0;
    refresh();
  }, REFRESH_DELAY);
}

// ---- new calls

function addCall(call) {
  if (state.seen.has(call.id)) return;
  refreshLater();
  if (!state.cost) return; // the first response has not arrived
  state.seen.add(call.id);
  noteLabels([call]);
  const session = valueOf(call, "session");
  if (session === (state.session.session ??= session)) addCallTo(state.session, call);
  else if (Date.now() - requestedAt > REFRESH_DELAY) refresh(); // the current session has changed
  if (call.started * 1000 >= startOf("today")) addCallTo(state.today, call);
  if (includes(selectedNow(state.session.session), call)) addToSelected(call);
  schedule();
}

function addToSelected(call) {
  addCallTo(state.cost, call);
  addCallToRows(state.models, ["provider", "model"], call);
  for (const name of ["agent", "phase", shownLabel()]) {
    if (state.cost[`by_${name}`]) addCallToRows(state.cost[`by_${name}`], [name], call);
  }
  addCallToChart(state.chart, call);
  const latest = pages.length === 1 && !selection.search && !selection.failed;
  if (latest) state.calls = [call, ...state.calls].slice(0, CALLS);
}

let scheduled = false;
function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    show();
  });
}

// ---- rendering

function show() {
  showControls();
  if (!state.cost) return;
  showNow();
  showTotals();
  showChart(state.chart);
  showBreakdowns();
  showBudgets(state.budgets);
  if (state.sessions) showSessions(state.sessions, state.cost);
  showCalls(state.calls);
  showPages();
}

function showNow() {
  const { session, today } = state;
  byId("today").textContent = usd(today.cost_usd);
  byId("session").textContent = session.session ?? "";
  byId("session-cost").textContent = usd(session.cost_usd);
  byId("reset").hidden = !session.session || !state.rights.includes("admin");
  byId("empty").hidden = session.session !== null;
  byId("data").classList.toggle("without-calls", session.session === null);
  byId("first-call").textContent = `LLM_EXPORTER_URL=${location.origin} python your_program.py`;
}

function showTotals() {
  const { cost } = state;
  byId("cost").textContent = usd(cost.cost_usd);
  byId("calls").textContent = count(cost.calls);
  byId("errors").textContent = count(cost.errors);
  byId("input").textContent = count(cost.input_tokens);
  byId("output").textContent = count(cost.output_tokens);
  byId("unpriced").hidden = !cost.unpriced_tokens;
  byId("unpriced").textContent = `${count(cost.unpriced_tokens)} tokens have no known price.`;
  byId("approximated").hidden = !cost.approximated_tokens;
  byId("approximated").textContent = `${count(cost.approximated_tokens)} tokens have an approximate cost.`;
}

function showBreakdowns() {
  const { cost, models } = state;
  showModels("bars-model", models, cost);
  for (const name of ["agent", "phase"]) showBreakdown(`bars-${name}`, name, cost[`by_${name}`], cost);
  const label = shownLabel();
  showBreakdown("bars-label", label, cost[`by_${label}`] ?? [], cost);
}

function showPages() {
  const searching = selection.search || selection.failed;
  byId("older").disabled = state.next === null;
  byId("newer").disabled = pages.length === 1;
  byId("page-number").textContent = `Page ${pages.length}`;
  byId("no-calls").hidden = state.calls.length > 0;
  byId("no-calls").textContent =
    searching && state.next !== null ? "None of the last 10,000 calls. “Older” searches on." : "No calls";
  for (const format of ["csv", "json"]) {
    byId(`calls-as-${format}`).href = callsUrl(state.selected, { limit: 10_000, format });
  }
}

function turnTo(newPages) {
  pages = newPages;
  refresh();
}

byId("older").addEventListener("click", () => turnTo([...pages, state.next]));
byId("newer").addEventListener("click", () => turnTo(pages.slice(0, -1)));
byId("sessions").addEventListener("toggle", () => byId("sessions").open && refresh());
byId("data").addEventListener("unfold", showBreakdowns);
byId("reset").addEventListener("click", async () => {
  const name = state.session.session;
  if (!confirm(`Reset session ${name}? It counts from zero again. Its calls stay in the ledger.`)) return;
  const response = await post(`api/v1/sessions/${encodeURIComponent(name)}/reset`);
  if (response?.ok) refresh();
  else showStatus(`Could not reset session ${name}`);
});

// ---- connection

function setConnected(connected) {
  state.connected = connected;
  showStatus();
  if (connected) refresh();
}

// A browser reconnects by itself unless there was an HTTP error, such as that of a session that has ended.
async function connect() {
  try {
    const { rights, signed_in } = await get("-/session");
    state.rights = rights;
    byId("sign-out").hidden = !signed_in;
  } catch (error) {
    if (byId("data").hidden) return; // signed out
    showStatus(error instanceof TypeError ? undefined : error.message);
    setTimeout(connect, REFRESH_DELAY);
    return;
  }
  const events = new EventSource("api/v1/events");
  events.addEventListener("open", () => setConnected(true));
  events.addEventListener("error", () => {
    const closed = events.readyState === EventSource.CLOSED;
    setConnected(false);
    if (closed) setTimeout(connect, REFRESH_DELAY);
  });
  events.addEventListener("call", (event) => addCall(JSON.parse(event.data)));
  events.addEventListener("missed", refresh);
  events.addEventListener("budgets", (event) => {
    state.budgets = updated(state.budgets, JSON.parse(event.data).budgets);
    showBudgets(state.budgets);
  });
  events.addEventListener("alert", (event) => showAlert(JSON.parse(event.data)));
}

readUrl();
onChange(() => {
  pages = [undefined];
  showControls();
  refresh();
});
// Without new calls, a new day may begin, and calls leave the last hour.
setInterval(() => {
  const newDay = state.today && Date.parse(state.today.since) < startOf("today");
  if (newDay || ["1h", "24h", "7d", "30d"].includes(selection.window)) refresh();
}, MINUTE);
connect();
