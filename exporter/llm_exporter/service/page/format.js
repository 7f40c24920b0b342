// Amounts and times as text.

export function usd(value) {
  const digits = value === 0 || value >= 1 ? 2 : value < 0.01 ? 6 : 4;
  return `$${value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })}`;
}

export const count = (value) => value.toLocaleString("en-US");

// Return a number: exact up to 9,999, and with three digits beyond.
export function short(value) {
  const options = value < 10_000 ? {} : { notation: "compact", maximumSignificantDigits: 3 };
  return value.toLocaleString("en-US", options);
}

export const tokens = (value) => `${short(value)} ${value === 1 ? "token" : "tokens"}`;

export const calls = (value) => `${count(value)} ${value === 1 ? "call" : "calls"}`;

export const tokensOf = (totals) => totals.input_tokens + totals.output_tokens;

// Return a cost and its share of the whole; "no price" if the models have none.
export function costAndShare(totals, whole) {
  if (!totals.cost_usd && totals.unpriced_tokens) return "no price";
  return usd(totals.cost_usd) + (whole ? ` (${percent(totals.cost_usd / whole)})` : "");
}

const percent = (share) => (share > 0 && share < 0.005 ? "< 1 %" : `${Math.round(share * 100)} %`);

// Return the start of a step of the chart. Days and months are those of UTC, as in budgets and reports.
export function startText(start, step) {
  const moment = new Date(start);
  if (step === "month") return moment.toISOString().slice(0, 7);
  if (step === "day") return moment.toISOString().slice(0, 10);
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return moment.toLocaleString("en-GB", { day: "numeric", month: "short", ...time });
}
