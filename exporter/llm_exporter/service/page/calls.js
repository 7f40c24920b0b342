// The table of calls, newest first.

import { byId, make, nameButton, nameOf, replaceChildren } from "./dom.js";
import { count, usd } from "./format.js";
import { isSelected, toggle } from "./selection.js";

export function showCalls(calls) {
  replaceChildren(byId("recent"), ...calls.map(rowOf));
}

function rowOf(call) {
  const line = make("tr");
  line.setAttribute("role", "row"); // on a phone, the table is laid out as a grid
  const cell = (className, text) => {
    const element = line.appendChild(make("td", className, text));
    element.setAttribute("role", "cell");
    return element;
  };
  const name = (dimension, value) => {
    const button = () => nameButton(value, isSelected(dimension, value), () => toggle(dimension, value));
    cell(dimension).append(value ? button() : `no ${dimension}`);
  };
  cell("time").append(timeOf(call));
  name("agent", call.agent);
  name("phase", call.phase);
  name("model", call.model);
  cell("operation").append(nameOf(call.route ? `${call.operation}: ${call.route}` : call.operation));
  cell("input number", count(call.input_tokens));
  cell("output number", count(call.output_tokens));
  const [cost, doubt] = costOf(call);
  cell(doubt ? "cost number warn" : "cost number", cost).title = doubt;
  cell("duration number", call.duration.toFixed(2));
  cell(call.error ? "status bad" : "status", call.error ? `Error: ${call.error}` : "OK");
  return line;
}

function timeOf(call) {
  const started = new Date(call.started * 1000);
  const today = started.toDateString() === new Date().toDateString();
  const text = started.toLocaleTimeString("en-GB");
  const day = started.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  const time = make("time", "", today ? text : `${day} ${text}`);
  time.dateTime = time.title = started.toISOString();
  return time;
}

// Return the text of a call's cost, and why it is not exact.
function costOf(call) {
  if (!call.cost_usd && !call.usage_reported && !call.error) {
    return ["unknown", call.route ? "llm-exporter cannot read the response" : "The provider reported no usage"];
  }
  if (!call.cost_usd && call.unpriced_tokens) return ["no price", "The model has no known price"];
  const reasons = Object.keys(call.approximated);
  if (reasons.length) return [`≈ ${usd(call.cost_usd)}`, `Approximate, because of: ${reasons.join(", ")}`];
  return [usd(call.cost_usd), ""];
}
