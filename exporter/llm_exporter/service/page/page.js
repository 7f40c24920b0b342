// The live page: totals and bars from /api/v1/cost, updated by the calls in /api/v1/events.
// Untrusted values (labels, models) are only ever set as text.

const byId = (id) => document.getElementById(id);
const RECENT = 50;
const BARS = 12;
const HOUR = 3600e3;
const REFRESH_DELAY = 3e3;
const MAX_REFRESH_DELAY = 30e3;
const MINUTE = 60e3;

const state = {
  cost: null,
  labels: new Set(),
  label: "",
  recent: [],
  seen: new Set(),
  rights: [],
  connected: false,
};

const usd = (value) => {
  const digits = value === 0 || value >= 1 ? 2 : value < 0.01 ? 6 : 4;
  return `$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
};
const count = (value) => value.toLocaleString("en-US");

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

async function get(path) {
  const response = await fetch(path);
  if (response.status === 401) showSignIn(response);
  if (!response.ok) throw new Error(`${path}: HTTP ${response.status}`);
  return response.json();
}

// ---- requests

function startOf(kind) {
  const now = new Date();
  if (kind === "hour") return new Date(now - HOUR);
  const day = kind === "month" ? 1 : now.getUTCDate();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), day));
}

function costUrl() {
  const parameters = new URLSearchParams();
  const kind = byId("window").value;
  if (kind !== "session") parameters.set("since", startOf(kind).toISOString());
  if (state.label) parameters.set("by", state.label);
  return `api/v1/cost?${parameters}`;
}

// Only the latest request counts: the response to an earlier one may arrive later.
let latestRequest = 0;
let requestedAt = 0;
async function refresh() {
  const request = ++latestRequest;
  requestedAt = Date.now();
  try {
    const [cost, session, today, calls, budgets] = await Promise.all([
      get(costUrl()),
      get("api/v1/cost"),
      get(`api/v1/cost?since=${startOf("today").toISOString()}`),
      get(`api/v1/calls?limit=${RECENT}`),
      get("api/v1/budgets"),
    ]);
    if (request !== latestRequest) return;
    Object.assign(state, { cost, session, today, recent: calls.calls, budgets: budgets.budgets });
  } catch (error) {
    if (request !== latestRequest || !state.connected) return; // the page refreshes when it reconnects
    showStatus(error.message);
    refreshLater();
    return;
  }
  state.seen = new Set(state.recent.map((call) => call.id));
  state.recent.forEach(noteLabels);
  showStatus();
  show();
}

// ---- new calls

const SUMS = ["cost_usd", "input_tokens", "output_tokens", "unpriced_tokens", "approximated_tokens"];

function addTo(totals, call) {
  for (const name of SUMS) totals[name] += call[name];
  totals.calls += 1;
  totals.errors += call.error ? 1 : 0;
}

// The same as `dimension` in ledger/base.py.
function valueOf(call, name) {
  if (name === "model") return call.model;
  return call.labels[name] || (name === "project" ? "default" : "unattributed");
}

function addToBars(cost, call) {
  for (const name of ["model", "agent", "phase", state.label].filter(Boolean)) {
    const rows = cost[`by_${name}`];
    if (!rows) continue;
    const value = valueOf(call, name);
    let row = rows.find((one) => one[name] === value);
    if (!row) {
      row = { [name]: value, calls: 0, errors: 0 };
      for (const sum of SUMS) row[sum] = 0;
      rows.push(row);
    }
    addTo(row, call);
    rows.sort((one, other) => other.cost_usd - one.cost_usd || other.calls - one.calls);
  }
}

function addCall(call) {
  if (state.seen.has(call.id)) return;
  refreshLater();
  if (!state.cost) return; // the first response has not arrived
  state.seen.add(call.id);
  noteLabels(call);
  const session = call.labels.session || "default";
  state.session.session ??= session;
  const current = session === state.session.session;
  if (current) addTo(state.session, call);
  else if (Date.now() - requestedAt > REFRESH_DELAY) refresh(); // the current session has changed
  if (call.started * 1000 >= startOf("today")) addTo(state.today, call);
  const kind = byId("window").value;
  if (kind === "session" ? current : call.started * 1000 >= startOf(kind)) {
    addTo(state.cost, call);
    addToBars(state.cost, call);
  }
  state.recent = [call, ...state.recent].slice(0, RECENT);
  schedule();
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

const NOT_LABELS = ["agent", "phase", "session", "provider", "model", "operation"];
function noteLabels(call) {
  for (const name of Object.keys(call.labels)) {
    if (NOT_LABELS.includes(name) || state.labels.has(name)) continue;
    state.labels.add(name);
    byId("label").append(new Option(name, name));
    if (!state.label) {
      state.label = name;
      refresh();
    }
  }
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
  const { cost, session, today } = state;
  byId("today").textContent = usd(today.cost_usd);
  byId("session").textContent = session.session ?? "";
  byId("session-cost").textContent = usd(session.cost_usd);
  byId("reset").hidden = !session.session || !state.rights.includes("admin");
  byId("cost").textContent = usd(cost.cost_usd);
  byId("calls").textContent = count(cost.calls);
  byId("errors").textContent = count(cost.errors);
  byId("input").textContent = count(cost.input_tokens);
  byId("output").textContent = count(cost.output_tokens);
  byId("unpriced").hidden = !cost.unpriced_tokens;
  byId("unpriced").textContent = `${count(cost.unpriced_tokens)} tokens have no known price.`;
  byId("approximated").hidden = !cost.approximated_tokens;
  byId("approximated").textContent = `${count(cost.approximated_tokens)} tokens have an approximate cost.`;
  byId("empty").hidden = state.recent.length > 0;
  byId("first-call").textContent = `LLM_EXPORTER_URL=${location.origin} python your_program.py`;
  for (const name of ["model", "agent", "phase"]) showBars(`bars-${name}`, name, cost[`by_${name}`], cost);
  byId("label").hidden = !state.label;
  showBars("bars-label", state.label, cost[`by_${state.label}`] ?? [], cost);
  showBudgets();
  byId("recent").replaceChildren(...state.recent.map(row));
}

function bar(name, value, share) {
  const item = make("li");
  const track = make("div", "track");
  const fill = make("div", "fill");
  fill.style.width = `${Math.min(share, 1) * 100}%`;
  track.append(fill);
  item.append(make("span", "name", name), make("span", "value", value), track);
  return item;
}

function showBars(id, name, rows, total) {
  const most = rows[0]?.cost_usd || 1;
  byId(id).replaceChildren(
    ...rows.slice(0, BARS).map((one) => {
      const share = total.cost_usd ? ` (${Math.round((one.cost_usd / total.cost_usd) * 100)} %)` : "";
      const value = one.cost_usd || !one.unpriced_tokens ? `${usd(one.cost_usd)}${share}` : "no price";
      return bar(one[name] || `no ${name}`, value, one.cost_usd / most);
    }),
  );
  if (!rows.length) byId(id).append(make("li", "small", "No calls yet"));
}

function showBudgets() {
  byId("budgets").hidden = !state.budgets.length;
  byId("bars-budgets").replaceChildren(...state.budgets.slice(0, BARS).map(budget));
}

function budget(one) {
  const match = Object.entries(one.labels).map(([name, value]) => `${name} ${value}`);
  const end = one.resets_at && `resets ${one.resets_at.slice(0, 16).replace("T", " ")} UTC`;
  const terms = [one.period, ...match, one.on_exceed === "block" ? "blocks calls" : "warns only", end];
  const [text, unit] = one.unit === "usd" ? [usd, ""] : [count, " tokens"];
  const over = one.spent > one.limit;
  const [difference, whole] = [text(Math.abs(one.limit - one.spent)), text(one.limit) + unit];
  const left = over ? `${difference} over ${whole}` : `${difference} of ${whole} left`;
  const item = bar(one.budget, left, one.spent / one.limit);
  item.classList.toggle("bad", over);
  item.append(make("span", "small", terms.filter(Boolean).join(" · ")));
  return item;
}

function row(call) {
  const line = make("tr");
  const cell = (text, className) => line.appendChild(make("td", className, text));
  const started = new Date(call.started * 1000);
  const time = make("time", "", started.toLocaleTimeString());
  time.dateTime = started.toISOString();
  cell().append(time);
  cell(call.agent);
  cell(call.phase);
  cell(call.model);
  cell(call.route ? `${call.operation}: ${call.route}` : call.operation);
  cell(count(call.input_tokens), "number");
  cell(count(call.output_tokens), "number");
  const [cost, doubt] = costOf(call);
  cell(cost, doubt ? "number warn" : "number").title = doubt;
  cell(call.duration.toFixed(2), "number");
  cell(call.error ? `Error: ${call.error}` : "OK", call.error ? "bad" : "");
  return line;
}

// Return the text of a call's cost, and why it is not exact.
function costOf(call) {
  if (!call.cost_usd && !call.usage_reported && !call.error) {
    return ["unknown", call.route ? "llm-exporter cannot read the response" : "The provider reported no usage"];
  }
  if (!call.cost_usd && call.unpriced_tokens) return ["no price", "The model has no known price"];
  const reasons = Object.keys(call.approximated);
  if (reasons.length) return [`≈ ${usd(call.cost_usd)}`, `Approximate, because of: ${reasons.join(", ")}`];
  return [usd(call.cost_usd), ""];
}

// ---- alerts

function alert({ key, title, detail, severity, resolved }) {
  const known = [...byId("alerts").children].find((one) => one.dataset.key === key);
  known?.remove();
  if (resolved) return;
  const item = make("div", severity === "critical" ? "alert critical" : "alert");
  item.dataset.key = key;
  const text = make("p");
  text.append(make("strong", "", `${severity}: ${title}`), ` ${detail}`);
  const dismiss = make("button", "", "Dismiss");
  dismiss.type = "button";
  dismiss.setAttribute("aria-label", `Dismiss: ${title}`);
  dismiss.addEventListener("click", () => item.remove());
  item.append(text, dismiss);
  byId("alerts").append(item);
}

// ---- signing in

const post = (path, body = {}) =>
  fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);

// The service admits nobody without a token, or no longer. If it has users, the browser has asked for a password.
function showSignIn(response) {
  if (state.cost) return location.reload(); // what a session showed must not outlive it
  const asksForPassword = response.headers.get("www-authenticate")?.includes("Basic");
  showStatus(asksForPassword ? "Reload the page to sign in" : "Signed out");
  for (const id of ["links", "alerts", "data", "sign-out"]) byId(id).hidden = true;
  if (asksForPassword || !byId("sign-in").hidden) return;
  byId("sign-in").hidden = false;
  byId("token").focus();
}

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const response = await post("-/login", { token: byId("token").value.trim() });
  if (response?.ok) return location.reload();
  const reason = response ? (await response.json()).detail : "the service does not respond";
  byId("sign-in-error").textContent = `Could not sign in: ${reason}`;
  byId("token").select();
});

byId("sign-out").addEventListener("click", async () => {
  if ((await post("-/logout"))?.ok) location.reload();
  else showStatus("Could not sign out");
});

// ---- connection

function showStatus(text = state.connected ? "Live" : "Reconnecting…") {
  byId("state").textContent = text;
  byId("state").classList.toggle("live", text === "Live");
}

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
    Object.assign(state, JSON.parse(event.data));
    showBudgets();
  });
  events.addEventListener("alert", (event) => alert(JSON.parse(event.data)));
}

byId("window").addEventListener("change", refresh);
byId("label").addEventListener("change", (event) => {
  state.label = event.target.value;
  refresh();
});
byId("reset").addEventListener("click", async () => {
  const name = state.session.session;
  if (!confirm(`Reset session ${name}? It counts from zero again. Its calls stay in the ledger.`)) return;
  const response = await post(`api/v1/sessions/${encodeURIComponent(name)}/reset`);
  if (response?.ok) refresh();
  else showStatus(`Could not reset session ${name}`);
});
// Without new calls, a new day may begin, and calls leave the last hour.
setInterval(() => {
  const newDay = state.today && Date.parse(state.today.since) < startOf("today");
  if (newDay || byId("window").value === "hour") refresh();
}, MINUTE);
connect();
