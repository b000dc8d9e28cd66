// What the pages share: their data, colours of the theme, plots.
"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const families = read("families");
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star",
  "triangle-down", "pentagon", "hexagon", "x"];
const COLOURS = 10;
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const touch = matchMedia("(pointer: coarse)");

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  return element;
}

// Plotly reads tags in texts; records may hold anything.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function shorter(text, most = 34) {
  return text.length > most ? text.slice(0, most - 1) + "…" : text;
}

function style(place, kind) {
  const symbol = SYMBOLS[place % SYMBOLS.length];
  return {
    colour: css(`--family-${place % COLOURS}`),
    symbol: kind === "published" ? symbol + "-open" : symbol,
    dash: kind === "published" ? "dot" : "solid",
  };
}

// 1, 2, 5 of each decade; of many decades fewer, of less than one even steps. Around a
// single value the axis has two decades.
function ticks(values) {
  let low = Math.min(...values), high = Math.max(...values);
  if (high > low && high / low < 5) {
    const rough = (high - low) / 4, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
    const first = Math.max(1, Math.floor(low / step) - 1);
    return Array.from({ length: 10 }, (_, i) => Number(((first + i) * step).toPrecision(6)));
  }
  const margin = high > low ? 1.5 : 10;
  low /= margin;
  high *= margin;
  const steps = high / low > 3000 ? [1] : high / low > 200 ? [1, 3] : [1, 2, 5];
  const found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    for (const step of steps) {
      const tick = Number((step * 10 ** e).toPrecision(3));
      if (tick >= low && tick <= high) found.push(tick);
    }
  }
  return found;
}

function logAxis(title, values) {
  const tickvals = ticks(values);
  return { title: { text: title }, type: "log", tickvals, ticktext: tickvals.map(String) };
}

// On a phone a plot has a row for each name, besides the room that all of them have.
function heighten(element, named) {
  const rows = named.flatMap(({ name }) => name.split("<br>")).length;
  element.style.height = narrow.matches && rows ? `${340 + 20 * rows}px` : "";
}

// Draws now, and again when the theme or the room for the legend changes.
function plot(element, content) {
  const paint = () => {
    const { traces, xaxis, yaxis } = content();
    const named = traces.filter(({ showlegend }) => showlegend !== false);
    heighten(element, named);
    const line = { gridcolor: css("--rule"), linecolor: css("--quiet"), zeroline: false,
      automargin: true };
    Plotly.react(element, traces, {
      xaxis: { ...line, ...xaxis },
      yaxis: { ...line, ...yaxis },
      font: { family: "system-ui, sans-serif", size: 13, color: css("--ink") },
      paper_bgcolor: css("--paper"),
      plot_bgcolor: css("--paper"),
      margin: { l: 56, r: 12, t: 12, b: 48 },
      hovermode: "closest",
      // A finger on a plot scrolls the page.
      dragmode: touch.matches ? false : "zoom",
      hoverlabel: { bgcolor: css("--raised"), bordercolor: css("--quiet"),
        font: { color: css("--ink") }, align: "left" },
      legend: { orientation: "h", xref: "container", x: 0, yref: "container", y: 0,
        yanchor: "bottom", maxheight: 0.7 },
      showlegend: named.length > 0,
    }, { displaylogo: false, responsive: true, showSendToCloud: false,
      modeBarButtonsToRemove: ["zoom2d", "pan2d", "select2d", "lasso2d", "autoScale2d"] });
  };
  for (const change of [dark, narrow]) change.addEventListener("change", paint);
  paint();
  return paint;
}
