// Figure against cost, with the front of each family.
"use strict";

const drawPareto = (() => {
  const element = document.getElementById("pareto");
  const test = document.getElementById("test"), cost = document.getElementById("cost");
  let shown = [], paint = null;

  function testOf(entry, label) {
    return [entry.dataset, entry.split, label].filter(Boolean).join(" · ");
  }

  function points() {
    const found = [];
    // A part of a test is no match for the whole.
    for (const entry of shown.filter(({ incomplete }) => !incomplete)) {
      for (const [label, figure] of Object.entries(entry.figures)) {
        const x = entry[cost.value];
        if (testOf(entry, label) === test.value && figure.mean !== null && x > 0) {
          found.push({ entry, label, figure, x, y: figure.mean });
        }
      }
    }
    return found;
  }

  // Those that no cheaper or equally cheap one beats.
  function front(series) {
    let best = -Infinity;
    return [...series].sort((a, b) => a.x - b.x || b.y - a.y).filter(({ y }) => {
      const better = y > best;
      best = Math.max(best, y);
      return better;
    });
  }

  function spread({ mean, std, runs }) {
    return mean.toFixed(2) + (std === null ? "" : ` ± ${std.toFixed(2)} (n=${runs})`);
  }

  function hover({ entry, label, figure }) {
    const number = (value) => value >= 1 ? value.toFixed(1) : value.toPrecision(3);
    return [
      `<b>${plain(entry.name)}</b>${entry.head && `, ${plain(entry.head)}`} (${entry.kind})`,
      plain(shorter(entry.conditions, 70)),
      `${plain(label)} ${spread(figure)}`,
      entry.params === null ? "" : `${number(entry.params)} M parameters`,
      entry.flops === null ? "" :
        `${number(entry.flops)} GMACs${entry.shape ? ` at ${entry.shape}` : ""}`,
      entry.latency === null ? "" : `${number(entry.latency)} ms, ${plain(entry.device)}`,
      entry.memory === null ? "" : `${number(entry.memory)} MB`,
    ].filter(Boolean).join("<br>");
  }

  function content() {
    const groups = Map.groupBy(points(), ({ entry }) => `${entry.kind} ${entry.family}`);
    const traces = [], list = document.getElementById("fronts");
    list.replaceChildren();
    for (const key of [...groups.keys()].sort()) {
      const series = groups.get(key), { entry } = series[0];
      const { colour, symbol, dash } = style(families.indexOf(entry.family), entry.kind);
      const name = `${plain(shorter(entry.family))} (${entry.kind})`;
      const best = front(series);
      traces.push({
        x: best.map(({ x }) => x), y: best.map(({ y }) => y), mode: "lines",
        line: { color: colour, dash, shape: "hv", width: 1.5 },
        hoverinfo: "skip", showlegend: false, legendgroup: key,
      }, {
        x: series.map(({ x }) => x), y: series.map(({ y }) => y), mode: "markers",
        marker: { color: colour, symbol, size: 10, line: { width: 2, color: colour } },
        error_y: { array: series.map(({ figure }) => figure.std ?? 0), thickness: 1.5,
          color: colour, visible: series.some(({ figure }) => figure.std) },
        hovertext: series.map(hover), hovertemplate: "%{hovertext}<extra></extra>",
        customdata: series.map(({ entry }) => entry.id), name, legendgroup: key,
      });
      const line = make("li", `${entry.family} (${entry.kind}): `);
      best.forEach((point, place) => {
        if (place) line.append(", ");
        const href = `record/${point.entry.id}.html`;
        line.append(make("a", `${point.entry.name} ${point.y.toFixed(2)}`, { href }));
      });
      list.append(line);
    }
    if (!traces.length) list.append(make("li", "No row shown here has this cost."));
    const xs = [...groups.values()].flat().map(({ x }) => x);
    return {
      traces,
      xaxis: logAxis(cost.selectedOptions[0].textContent, xs.length ? xs : [1, 10]),
      yaxis: { title: { text: test.value.split(" · ").at(-1) + ", %" } },
    };
  }

  function tests() {
    const counts = new Map();
    for (const entry of shown) {
      for (const label of Object.keys(entry.figures)) {
        const name = testOf(entry, label);
        counts.set(name, (counts.get(name) ?? 0) + (entry[cost.value] > 0));
      }
    }
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a));
    const before = test.value;
    test.replaceChildren(...names.map((name) => make("option", name, { value: name })));
    if (names.includes(before)) test.value = before;
  }

  function draw() {
    if (paint) return paint();
    paint = plot(element, content);
    element.on("plotly_click", ({ points: [point] }) => {
      if (point.customdata) location.href = `record/${point.customdata}.html`;
    });
  }

  test.addEventListener("change", draw);
  cost.addEventListener("change", draw);
  return (entries) => {
    shown = entries;
    tests();
    draw();
  };
})();
