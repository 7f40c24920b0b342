// The alerts that fire.

import { byId, make } from "./dom.js";

export function showAlert({ key, title, detail, severity, resolved }) {
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
