// The chart: cost over time, stacked. https://github.com/leeoniya/uPlot draws it; `uPlot` is its only global name.

/* global uPlot */

import { byId, make, nameButton, replaceChildren } from "./dom.js";
import { calls, costAndShare, count, short, startText, tokens, tokensOf, usd } from "./format.js";
import { change, isSelected, nextStep, STEPS, toggle } from "./selection.js";
import { rankedSeries, SERIES } from "./series.js";
import { sumOf } from "./totals.js";

const HEIGHT = 220;
const STEP_NAMES = { minute: "minute", hour: "hour", day: "day (UTC)", month: "month (UTC)" };

let plot = null;
let shown = null; // what is drawn: a chart and its series
let hovered = null; // the place of the bar under the pointer
let redrawing = false;

const colorOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A value keeps its color while it is in the chart, whatever its rank.
const places = new Map();
function placesOf(chart, names) {
  if (shown?.chart.by !== chart.by) places.clear();
  for (const name of places.keys()) if (!names.includes(name)) places.delete(name);
  const free = [...Array(SERIES).keys()].filter((place) => ![...places.values()].includes(place));
  for (const name of names) if (name !== null && !places.has(name)) places.set(name, free.shift());
}

const colorName = (name) => (name === null ? "--series-others" : `--series-${places.get(name)}`);

export function showChart(chart) {
  const series = rankedSeries(chart);
  placesOf(chart, series.map(({ name }) => name));
  shown = { chart, series };
  if (hovered !== null && hovered >= chart.starts.length) hovered = null;
  byId("chart-title").textContent = `Cost by ${STEP_NAMES[chart.step]}`;
  byId("chart").setAttribute("aria-label", describe(chart, series));
  draw();
  showLegend();
  if (byId("chart-table").open) showTable();
}

function describe({ step, by, totals }, series) {
  const cost = usd(sumOf(totals).cost_usd);
  return `Cost by ${step}, stacked by ${by}: ${cost}. ${series.map(({ name, sum }) => `${name ?? "others"} ${usd(sum)}`).join(", ")}`;
}

// Return the data of uPlot: the bars are drawn on top of each other, the tallest first.
function stacked({ starts }, series) {
  const heights = starts.map(() => 0);
  const stack = series.map(({ costs }) => costs.map((cost, place) => (heights[place] += cost)));
  return [starts.map((start) => start / 1e3), ...stack.reverse()];
}

function draw() {
  const { chart, series } = shown;
  const place = byId("chart");
  redrawing = true;
  plot?.destroy();
  plot = null;
  if (place.clientWidth) plot = new uPlot(options(chart, series, place.clientWidth), stacked(chart, series), place);
  redrawing = false;
}

function options(chart, series, width) {
  const axis = { stroke: colorOf("--quiet"), grid: { stroke: colorOf("--track"), width: 1 }, ticks: { show: false } };
  const inUtc = chart.step === "day" || chart.step === "month";
  const end = nextStep(chart.starts.at(-1) ?? 0, chart.step) / 1e3;
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
    tzDate: (time) => (inUtc ? uPlot.tzDate(new Date(time * 1e3), "Etc/UTC") : new Date(time * 1e3)),
    scales: {
      x: { range: (_, first) => [first ?? 0, end] },
      y: { range: (_, least, most) => [0, most ? most * 1.05 : 1] },
    },
    axes: [
      { ...axis, values: timeTexts(), incrs: ticksOf(chart.step) },
      { ...axis, size: (_, texts) => 16 + 7 * Math.max(0, ...(texts ?? []).map((text) => text.length)), values: axisCosts },
    ],
    series: [
      {},
      ...[...series].reverse().map(({ name }) => ({
        fill: colorOf(colorName(name)),
        width: 0,
        points: { show: false },
        paths: uPlot.paths.bars({ align: 1, size: [0.85] }),
      })),
    ],
    hooks: {
      setCursor: [(uplot) => hover(placeUnder(uplot))],
      ready: [({ over }) => over.addEventListener("click", () => hovered !== null && zoom(hovered))],
    },
  };
}

// Return the place of the bar that begins left of the pointer; null if the pointer is elsewhere.
function placeUnder(uplot) {
  if (!(uplot.cursor.left >= 0)) return null;
  const time = uplot.posToVal(uplot.cursor.left, "x") * 1e3;
  const place = shown.chart.starts.findLastIndex((start) => start <= time);
  return place < 0 ? null : place;
}

const axisCosts = (_, costs) => costs.map((cost) => `$${cost.toLocaleString("en-US", { maximumFractionDigits: 9 })}`);

// Return the distances of ticks in seconds: none is shorter than a step. Those of months are uPlot's own.
const MINUTES = [1, 5, 10, 15, 30, 60, 120, 180, 360, 720];
const DAYS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15];
function ticksOf(step) {
  const all = [...MINUTES.map((minutes) => minutes * 60), ...DAYS.map((days) => days * 86400)];
  return step === "month" ? undefined : all.filter((distance) => distance >= STEPS[step] / 1e3);
}

// Return the formats of times as uPlot takes them: the shortest distance of ticks, and the texts of a tick and a new day.
function timeTexts() {
  const format = (distance, text, day) => [distance, text, null, null, day, null, null, null, 1];
  return [
    format(365 * 86400, "{YYYY}", null),
    format(28 * 86400, "{MMM}", "\n{YYYY}"),
    format(86400, "{D} {MMM}", null),
    format(60, "{HH}:{mm}", "\n{D} {MMM}"),
    format(1, "{HH}:{mm}:{ss}", "\n{D} {MMM}"),
  ];
}

function hover(place) {
  if (redrawing || place === hovered) return;
  hovered = place;
  showLegend();
}

function zoom(place) {
  const { starts, step } = shown.chart;
  change({ window: "custom", since: starts[place], until: nextStep(starts[place], step) });
}

// The legend has the values of the bar under the pointer, or else those of the whole range.
function showLegend() {
  const { chart, series } = shown;
  const whole = hovered === null ? sumOf(chart.totals) : chart.totals[hovered];
  const when = hovered === null ? "" : `${startText(chart.starts[hovered], chart.step)}: `;
  byId("chart-when").textContent = `${when}${usd(whole.cost_usd)} · ${tokens(tokensOf(whole))} · ${calls(whole.calls)}`;
  const items = series.map(({ name, costs, sum }) => {
    const item = make("li");
    const swatch = make("span", "swatch");
    swatch.style.background = `var(${colorName(name)})`;
    const cost = hovered === null ? sum : costs[hovered];
    item.append(swatch, entry(chart.by, name), make("span", "value", costAndShare({ cost_usd: cost }, whole.cost_usd)));
    return item;
  });
  replaceChildren(byId("chart-legend"), ...items);
}

function entry(by, name) {
  if (name === null) return make("span", "", "others");
  if (!name) return make("span", "", `no ${by}`);
  return nameButton(name, isSelected(by, name), () => toggle(by, name));
}

// The same numbers for keyboards and screen readers.
function showTable() {
  const { starts, step, totals } = shown.chart;
  const rows = starts.map((start, place) => {
    const row = make("tr");
    const button = make("button", "pick", startText(start, step));
    button.type = "button";
    button.addEventListener("click", () => zoom(place));
    row.append(make("td"));
    row.firstChild.append(button);
    const one = totals[place];
    const texts = [usd(one.cost_usd), short(tokensOf(one)), count(one.calls)];
    row.append(...texts.map((text) => make("td", "number", text)));
    return row;
  });
  replaceChildren(byId("chart-rows"), ...rows);
}

byId("chart-table").addEventListener("toggle", () => shown && showTable());
new ResizeObserver(([{ contentRect }]) => {
  if (!shown) return;
  if (plot) plot.setSize({ width: contentRect.width, height: HEIGHT });
  else draw();
}).observe(byId("chart"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown && draw());
