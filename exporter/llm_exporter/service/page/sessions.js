// The sessions with the highest costs.

import { byId, make, nameButton, replaceChildren } from "./dom.js";
import { costAndShare, count, short, tokensOf } from "./format.js";
import { isSelected, toggle } from "./selection.js";

export function showSessions(rows, whole) {
  replaceChildren(byId("session-rows"), ...rows.map((row) => rowOf(row, whole)));
}

function rowOf(row, whole) {
  const line = make("tr");
  const name = line.appendChild(make("td", "session"));
  if (row.session === null) name.textContent = "others";
  else name.append(nameButton(row.session, isSelected("session", row.session), () => toggle("session", row.session)));
  for (const text of [costAndShare(row, whole.cost_usd), short(tokensOf(row)), count(row.calls)]) {
    line.append(make("td", "number", text));
  }
  return line;
}
