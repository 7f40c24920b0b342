// Reads what the page shows from the service.

import { get, HttpError } from "./api.js";
import { chartOf, probe, SERIES } from "./series.js";
import { parametersOf, selectedNow, selection, startOf, stepFor, STEPS } from "./selection.js";
import { shownLabel } from "./state.js";
import { noTotals } from "./totals.js";

export const CALLS = 50;
const SESSIONS = 100;

// Return all that the page shows. `before` is the position of the page of calls, `withSessions` whether to list them.
export async function load(before, withSessions) {
  const session = await get("api/v1/cost");
  const selected = selectedNow(session.session);
  const [cost, models, chart, sessions, today, calls, budgets] = await Promise.all([
    costOf(selected),
    report(selected, { by: "provider,model" }),
    loadChart(selected),
    withSessions ? report(selected, { by: "session", top: SESSIONS }) : null,
    get(`api/v1/cost?${parametersOf({ since: startOf("today"), until: null, match: {} })}`),
    get(callsUrl(selected, { limit: CALLS, before })),
    get("api/v1/budgets"),
  ]);
  const { calls: page, next } = calls;
  return { session, selected, cost, models, chart, sessions, today, calls: page, next, ...budgets };
}

export function callsUrl(selected, more) {
  const { search, failed } = selection;
  return `api/v1/calls?${parametersOf(selected, { search, failed: failed && "true", ...more })}`;
}

async function costOf(selected) {
  try {
    return await get(`api/v1/cost?${parametersOf(selected, { by: shownLabel() })}`);
  } catch (error) {
    if (!(error instanceof HttpError && error.status === 404)) throw error;
    return { ...noTotals(), by_agent: [], by_phase: [] }; // the session has no calls
  }
}

const report = async (selected, more) => (await get(`api/v1/report?${parametersOf(selected, more)}`)).rows;

// If the start is not known, that of the first call is: it decides about the steps.
async function loadChart(selected) {
  const by = selection.stack;
  let { since } = selected;
  const until = selected.until ?? Date.now();
  const rowsOf = (period) => {
    // The clocks of the service and of the browser may differ.
    const times = { since, until: selected.until ?? until + STEPS.minute };
    return report({ ...selected, ...times }, { by, period, top: SERIES });
  };
  if (since === null || since === 0) {
    const period = probe(selected);
    const rows = await rowsOf(period);
    if (!rows.length) return chartOf([], period, by, until, until);
    since = Date.parse(rows[0][period]);
    const step = stepFor(until - since);
    if (step === period) return chartOf(rows, step, by, since, until);
  }
  const step = stepFor(until - since);
  return chartOf(await rowsOf(step), step, by, since, until);
}
