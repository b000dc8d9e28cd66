// Chosen records side by side; the address says which.
"use strict";

(() => {
  const { texts, rows, titles } = read("facts");
  const table = document.getElementById("comparison");
  const add = document.getElementById("add");
  const differing = document.getElementById("differing");

  function chosen() {
    const ids = location.hash.slice(1).split(",").filter((id) => Object.hasOwn(rows, id));
    return [...new Set(ids)];
  }

  function factsOf(id) {
    const facts = new Map(), flat = rows[id];
    for (let i = 0; i < flat.length; i += 2) facts.set(texts[flat[i]], texts[flat[i + 1]]);
    return facts;
  }

  function head(ids) {
    const row = make("tr");
    row.append(make("td"));
    for (const id of ids) {
      const cell = make("th", "", { scope: "col" });
      const drop = make("button", "remove", { type: "button",
        "aria-label": `Remove ${titles[id]}` });
      drop.addEventListener("click", () => {
        location.hash = ids.filter((other) => other !== id).join(",");
      });
      cell.append(make("a", titles[id], { href: `record/${id}.html` }), drop);
      row.append(cell);
    }
    return row;
  }

  function show() {
    const ids = chosen(), all = ids.map(factsOf);
    const names = new Set(all.flatMap((facts) => [...facts.keys()]));
    const body = make("tbody");
    let different = 0;
    for (const name of names) {
      const values = all.map((facts) => facts.get(name) ?? "-");
      const same = values.every((value) => value === values[0]);
      different += !same;
      if (same && differing.checked && ids.length > 1) continue;
      const row = make("tr", "", same || differing.checked ? {} : { class: "differs" });
      row.append(make("th", name, { scope: "row" }), ...values.map((v) => make("td", v)));
      body.append(row);
    }
    const header = make("thead");
    header.append(head(ids));
    table.replaceChildren(...(ids.length ? [header, body] : []));
    document.getElementById("said").textContent = ids.length === 0
      ? "Choose records here, or in the table of records."
      : `${ids.length} records, ${different} of ${names.size} facts differ.`;
    add.replaceChildren(make("option", "choose a record", { value: "" }),
      ...Object.entries(titles).filter(([id]) => !ids.includes(id))
        .map(([id, title]) => make("option", title, { value: id })));
  }

  add.addEventListener("change", () => {
    location.hash = [...chosen(), add.value].join(",");
  });
  differing.addEventListener("change", show);
  addEventListener("hashchange", show);
  show();
})();
