// Elements. Untrusted values (labels, models) are only ever set as text.

export const byId = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Return a name that is cut in the middle where there is no room for it: names often differ at their end.
const END = 8;
export function nameOf(text, tag = "span") {
  const characters = [...text];
  const end = Math.min(END, Math.floor(characters.length / 2));
  const element = make(tag, "name");
  element.dir = "auto";
  element.title = text;
  element.append(
    make("span", "head", characters.slice(0, characters.length - end).join("")),
    make("span", "tail", characters.slice(characters.length - end).join("")),
  );
  return element;
}

// Return a button with a name, which is pressed while the page is filtered by it.
export function nameButton(text, pressed, onClick) {
  const button = nameOf(text, "button");
  button.type = "button";
  button.classList.add("pick");
  button.setAttribute("aria-label", text); // in one piece
  button.setAttribute("aria-pressed", pressed);
  button.addEventListener("click", onClick);
  return button;
}

// Replace what an element contains, and keep the focus on the button of that name, or else on one in its place.
export function replaceChildren(element, ...children) {
  const focused = document.activeElement;
  const place = [...element.querySelectorAll("button")].indexOf(focused);
  element.replaceChildren(...children);
  if (place < 0) return;
  const buttons = [...element.querySelectorAll("button")];
  const same = buttons.find((button) => button.textContent === focused.textContent);
  (same ?? buttons[place] ?? buttons.at(-1))?.focus();
}

// Return a bar that is filled by a share.
export function track(share) {
  const track = make("div", "track");
  const fill = make("div", "fill");
  fill.style.width = `${Math.min(share, 1) * 100}%`;
  track.append(fill);
  return track;
}
