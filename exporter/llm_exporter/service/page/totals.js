// Totals of calls, and how a new call is added to them.

const SUMS = ["cost_usd", "input_tokens", "output_tokens", "unpriced_tokens", "approximated_tokens"];

export function noTotals() {
  const totals = { calls: 0, errors: 0 };
  for (const name of SUMS) totals[name] = 0;
  return totals;
}

export function addTotals(totals, others) {
  for (const name of [...SUMS, "calls", "errors"]) totals[name] += others[name];
  return totals;
}

export const sumOf = (rows) => rows.reduce(addTotals, noTotals());

export function addCallTo(totals, call) {
  for (const name of SUMS) totals[name] += call[name];
  totals.calls += 1;
  totals.errors += call.error ? 1 : 0;
}

// Add a call to the row that has its values, most expensive first.
export function addCallToRows(rows, names, call) {
  const values = names.map((name) => valueOf(call, name));
  let row = rows.find((one) => names.every((name, number) => one[name] === values[number]));
  if (!row) {
    row = noTotals();
    names.forEach((name, number) => (row[name] = values[number]));
    rows.push(row);
  }
  addCallTo(row, call);
  sortByCost(rows);
}

export const sortByCost = (rows) => rows.sort((one, other) => other.cost_usd - one.cost_usd || other.calls - one.calls);

// The same as `dimension` in ledger/base.py.
export function valueOf(call, name) {
  if (["provider", "model", "operation"].includes(name)) return call[name];
  return call.labels[name] || (["project", "session"].includes(name) ? "default" : "unattributed");
}
