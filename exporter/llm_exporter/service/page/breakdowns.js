// The lists of models, agents, phases and values of a label: what each costs, most expensive first.

import { byId, make, nameButton, replaceChildren, track } from "./dom.js";
import { costAndShare, tokens, tokensOf } from "./format.js";
import { isSelected, toggle } from "./selection.js";
import { sumOf } from "./totals.js";

const FIRST = 12;
const ALL = 1000;

const unfolded = new Set(); // the lists that show more than the first ones

// Show the values of a dimension in the list with an id.
export function showBreakdown(id, name, rows, whole) {
  const most = rows[0]?.cost_usd || 1;
  const { shown, rest } = split(id, rows);
  const items = shown.map((row) => itemOf(name, row, whole, most));
  show(id, items, rest, whole);
}

// Show models under their providers. Both are sorted by cost.
export function showModels(id, rows, whole) {
  const { shown, rest } = split(id, rows);
  const most = rows[0]?.cost_usd || 1;
  const providers = [...Map.groupBy(rows, ({ provider }) => provider)]
    .map(([provider, models]) => ({ ...sumOf(models), provider }))
    .sort((one, other) => other.cost_usd - one.cost_usd);
  const items = providers.flatMap((row) => {
    const models = shown.filter(({ provider }) => provider === row.provider);
    if (!models.length) return [];
    const group = itemOf("provider", row, whole);
    group.classList.add("group");
    return [group, ...models.map((model) => itemOf("model", model, whole, most))];
  });
  show(id, items, rest, whole);
}

function split(id, rows) {
  const number = unfolded.has(id) ? ALL : FIRST;
  return { shown: rows.slice(0, number), rest: rows.slice(number) };
}

function show(id, items, rest, whole) {
  if (!items.length) items.push(make("li", "quiet", "No calls"));
  if (rest.length || unfolded.has(id)) items.push(restOf(id, rest, whole));
  replaceChildren(byId(id), ...items);
}

// Return an item with a name to filter by, tokens, cost and a bar, whose full length is the cost `most`.
function itemOf(name, row, whole, most) {
  const value = row[name];
  const item = make("li");
  const button = value
    ? nameButton(value, isSelected(name, value), () => toggle(name, value))
    : make("span", "name", `no ${name}`);
  item.append(button, ...amounts(row, whole));
  if (most) item.append(track(row.cost_usd / most));
  return item;
}

const amounts = (row, whole) => [
  make("span", "tokens", tokens(tokensOf(row))),
  make("span", "value", costAndShare(row, whole.cost_usd)),
];

function restOf(id, rest, whole) {
  const item = make("li", "rest");
  const open = unfolded.has(id);
  const text = rest.length ? `and ${rest.length.toLocaleString("en-US")} more` : "";
  const button = make("button", "pick", open ? `Show the first ${FIRST}` : text);
  button.type = "button";
  button.setAttribute("aria-expanded", open);
  button.addEventListener("click", () => {
    unfolded[open ? "delete" : "add"](id);
    byId(id).dispatchEvent(new CustomEvent("unfold", { bubbles: true }));
  });
  item.append(button);
  if (open && rest.length) item.append(make("span", "quiet", text));
  if (rest.length) item.append(...amounts(sumOf(rest), whole));
  return item;
}
