// Requests to the service.

export class HttpError extends Error {
  constructor(path, status) {
    super(`${path}: HTTP ${status}`);
    this.status = status;
  }
}

let signedOut = () => {};

// Call a function with each response that says that nobody is signed in.
export function onSignedOut(listener) {
  signedOut = listener;
}

export async function get(path) {
  const response = await fetch(path);
  if (response.status === 401) signedOut(response);
  if (!response.ok) throw new HttpError(path, response.status);
  return response.json();
}

// Return the response; null if the service does not respond.
export const post = (path, body = {}) =>
  fetch(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  }).catch(() => null);
