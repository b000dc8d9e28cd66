// The training log of a record.
"use strict";

const curves = document.getElementById("curves");
if (curves) {
  const plots = [];
  for (const [name, { steps, values }] of Object.entries(read("curve-data"))) {
    const box = make("div");
    const element = make("div", "", { class: "plot small", role: "img",
      "aria-label": `${name} by iteration` });
    box.append(make("h3", name), element);
    curves.append(box);
    plots.push([element, () => ({
      traces: [{ x: steps, y: values, mode: "lines", showlegend: false,
        line: { color: css("--link"), width: 1.5 },
        hovertemplate: "iteration %{x}: %{y:.4g}<extra></extra>" }],
      xaxis: { title: { text: "iteration" }, rangemode: "tozero" },
      yaxis: { rangemode: "tozero", exponentformat: "power" },
    })]);
  }
  // Only now is it known how wide each is.
  for (const [element, content] of plots) plot(element, content);
}
