// Fitted laws with their bands, log-log.
"use strict";

(() => {
  const boards = read("boards");

  function shaded(colour) {
    const [r, g, b] = colour.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    return `rgba(${r}, ${g}, ${b}, 0.15)`;
  }

  const keyOf = ({ family, kind, setting }) => [family, kind, setting].join("\n");

  function traces(law, place) {
    const { colour, symbol, dash } = style(place, law.kind);
    const name = `${plain(shorter(law.family))} (${law.kind})`
      + (narrow.matches ? "<br>" : ": ") + plain(shorter(law.setting, 50));
    const { x, y, low, high } = law.line;
    const group = keyOf(law);
    const quiet = { mode: "lines", hoverinfo: "skip", showlegend: false, legendgroup: group };
    return [
      { ...quiet, x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()],
        fill: "toself", fillcolor: shaded(colour), line: { width: 0 } },
      { ...quiet, x, y, line: { color: colour, dash, width: 2 } },
      { x: law.x, y: law.y, mode: "markers", name, legendgroup: group,
        marker: { color: colour, symbol, size: 9, line: { width: 2, color: colour },
          opacity: law.fitted.map((fitted) => fitted ? 1 : 0.3) },
        hovertext: law.names.map((model) => plain(`${model}, ${shorter(law.setting, 70)}`)),
        hovertemplate: "<b>%{hovertext}</b><br>%{x:.4g}: error %{y:.4g}<extra></extra>" },
    ];
  }

  for (const element of document.querySelectorAll("[data-unit]")) {
    const board = boards.find(({ title }) => title === element.dataset.of);
    const laws = board.plots[element.dataset.unit];
    // A family may have several laws, and a law looks alike against either cost.
    const keys = [...new Set(Object.values(board.plots).flat().map(keyOf))].sort();
    plot(element, () => ({
      traces: laws.flatMap((law) => traces(law, keys.indexOf(keyOf(law)))),
      xaxis: logAxis(element.dataset.unit, laws.flatMap(({ x }) => x)),
      yaxis: logAxis(board.error, laws.flatMap(({ y }) => y)),
    }));
  }
})();
