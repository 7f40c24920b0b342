// Signing in and out. The service admits nobody without a token, or no longer.

import { onSignedOut, post } from "./api.js";
import { byId } from "./dom.js";
import { state } from "./state.js";
import { showStatus } from "./status.js";

onSignedOut((response) => {
  if (state.cost) return location.reload(); // what a session showed must not outlive it
  const asksForPassword = response.headers.get("www-authenticate")?.includes("Basic"); // the browser has asked for it
  showStatus(asksForPassword ? "Reload the page to sign in" : "Signed out");
  for (const id of ["links", "alerts", "data", "sign-out"]) byId(id).hidden = true;
  if (asksForPassword || !byId("sign-in").hidden) return;
  byId("sign-in").hidden = false;
  byId("token").focus();
});

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
