// The budgets, most used first. Those of one rule, such as one for each agent, are folded.

import { byId, make, nameOf, track } from "./dom.js";
import { count, usd } from "./format.js";

const FIRST = 12;

const open = new Set(); // the rules that are unfolded

const share = ({ spent, limit }) => spent / limit;

export function showBudgets(budgets) {
  byId("budgets").hidden = !budgets.length;
  const rules = [...Map.groupBy(budgets, ({ budget }) => budget).values()];
  const items = rules.map((rule) => (rule.length === 1 ? itemOf(rule[0]) : folded(rule)));
  byId("bars-budgets").replaceChildren(...items);
}

// Return all budgets after some have changed. Those of one rule differ by their labels.
export function updated(budgets, changed) {
  const all = new Map([...budgets, ...changed].map((one) => [JSON.stringify([one.budget, one.labels]), one]));
  return [...all.values()].sort((one, other) => share(other) - share(one));
}

function folded(rule) {
  const [worst] = rule; // the service lists the most used first
  const over = rule.filter(({ spent, limit }) => spent > limit).length;
  const item = make("li");
  const details = make("details");
  details.open = open.has(worst.budget);
  details.addEventListener("toggle", () => open[details.open ? "add" : "delete"](worst.budget));
  const summary = make("summary");
  const counted = `${count(rule.length)} budgets, ${over ? `${count(over)} used up` : "none used up"}`;
  summary.append(nameOf(worst.budget), make("span", over ? "value bad" : "value", counted));
  const list = make("ul", "bars");
  list.append(...rule.slice(0, FIRST).map((one) => itemOf(one, labelsOf(one).join(" · "))));
  if (rule.length > FIRST) list.append(make("li", "quiet", `and ${count(rule.length - FIRST)} more that are used less`));
  details.append(summary, list);
  item.append(details);
  item.append(make("span", "small", `most used: ${labelsOf(worst).join(" · ")}, ${left(worst)}`), track(share(worst)));
  item.classList.toggle("bad", over > 0);
  return item;
}

const labelsOf = ({ labels }) => Object.entries(labels).map(([name, value]) => `${name} ${value}`);

function itemOf(one, name = one.budget) {
  const end = one.resets_at && `resets ${one.resets_at.slice(0, 16).replace("T", " ")} UTC`;
  const match = name === one.budget ? labelsOf(one) : [];
  const terms = [one.period, ...match, one.on_exceed === "block" ? "blocks calls" : "warns only", end];
  const item = make("li");
  item.append(nameOf(name), make("span", "value", left(one)), track(share(one)));
  item.append(make("span", "small", terms.filter(Boolean).join(" · ")));
  item.classList.toggle("bad", one.spent > one.limit);
  return item;
}

function left({ unit, limit, spent }) {
  const [text, suffix] = unit === "usd" ? [usd, ""] : [count, " tokens"];
  const [difference, whole] = [text(Math.abs(limit - spent)), text(limit) + suffix];
  return spent > limit ? `${difference} over ${whole}` : `${difference} of ${whole} left`;
}
