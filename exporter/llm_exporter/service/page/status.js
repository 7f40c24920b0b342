// Whether the page is connected, or what went wrong last.

import { byId } from "./dom.js";
import { state } from "./state.js";

export function showStatus(text = state.connected ? "Live" : "Reconnecting…") {
  byId("state").textContent = text;
  byId("state").classList.toggle("live", text === "Live");
}
