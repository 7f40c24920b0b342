// The series of the chart: cost over time by the values of a dimension.

import { nextStep, startOfStep } from "./selection.js";
import { addCallTo, addTotals, noTotals, valueOf } from "./totals.js";

export const SERIES = 8;
const MAX_STEPS = 1000;
const OTHERS = null; // the name of what is beyond the most expensive values

// Return the step to look for the first call with. Sessions are short.
export const probe = ({ match }) => (match.session ? "hour" : "month");

export function chartOf(rows, step, by, since, until) {
  const chart = { step, by, starts: [], totals: [], series: new Map() };
  for (let start = startOfStep(since, step); start < until && chart.starts.length < MAX_STEPS; ) {
    addStep(chart, start);
    start = nextStep(start, step);
  }
  for (const row of rows) addRow(chart, Date.parse(row[step]), row[by], row);
  return chart;
}

export function addCallToChart(chart, call) {
  let name = valueOf(call, chart.by);
  const named = [...chart.series.keys()].filter((one) => one !== OTHERS).length;
  if (!chart.series.has(name) && named >= SERIES) name = OTHERS;
  const totals = noTotals();
  addCallTo(totals, call);
  addRow(chart, startOfStep(call.started * 1e3, chart.step), name, totals);
}

function addRow(chart, start, name, row) {
  while (chart.starts.length && start > chart.starts.at(-1) && chart.starts.length < MAX_STEPS) {
    addStep(chart, nextStep(chart.starts.at(-1), chart.step));
  }
  const place = chart.starts.indexOf(start);
  if (place < 0) return;
  if (!chart.series.has(name)) chart.series.set(name, chart.starts.map(() => 0));
  chart.series.get(name)[place] += row.cost_usd;
  addTotals(chart.totals[place], row);
}

function addStep(chart, start) {
  chart.starts.push(start);
  chart.totals.push(noTotals());
  for (const costs of chart.series.values()) costs.push(0);
}

// Return the names and costs of the series, most expensive first and the others last.
export function rankedSeries({ series }) {
  const sum = (costs) => costs.reduce((one, other) => one + other, 0);
  return [...series]
    .map(([name, costs]) => ({ name, costs, sum: sum(costs) }))
    .sort((one, other) => (one.name === OTHERS) - (other.name === OTHERS) || other.sum - one.sum);
}
