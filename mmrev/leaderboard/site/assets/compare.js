// Chosen records side by side. The address says which: a comma parts columns, a plus the
// seeds of one column.
"use strict";

(() => {
  const { texts, rows, about, choices } = read("facts");
  const table = document.getElementById("comparison");
  const add = document.getElementById("add");
  const differing = document.getElementById("differing");
  // What a test measures; of other numbers, such as the seeds, a mean says nothing.
  const FIGURE = /^(metrics|speed|wall_time)\b/;

  function chosen() {
    const columns = location.hash.slice(1).split(",").map((column) =>
      [...new Set(column.split("+"))].filter((id) => Object.hasOwn(rows, id)).join("+"));
    return [...new Set(columns)].filter(Boolean);
  }

  function factsOf(id) {
    const facts = new Map(), flat = rows[id];
    for (let i = 0; i < flat.length; i += 2) facts.set(texts[flat[i]], texts[flat[i + 1]]);
    return facts;
  }

  function namesOf(all) {
    return new Set(all.flatMap((facts) => [...facts.keys()]));
  }

  // To two digits of the deviation.
  function spread(numbers) {
    const mean = numbers.reduce((sum, one) => sum + one) / numbers.length;
    const squares = numbers.reduce((sum, one) => sum + (one - mean) ** 2, 0);
    const std = Math.sqrt(squares / (numbers.length - 1));
    const digits = Math.min(12, Math.max(0, 1 - Math.floor(Math.log10(std))));
    return `${mean.toFixed(digits)} ± ${std.toFixed(digits)}`;
  }

  // What the seeds have in common, the spread of a figure, or the value of each.
  function together(name, values) {
    if (values.every((value) => value === values[0])) return values[0];
    const numbers = values.map(Number);
    const figure = FIGURE.test(name) && !numbers.some(Number.isNaN);
    return figure ? spread(numbers) : values.join("\n");
  }

  function factsOfColumn(column) {
    const seeds = column.split("+").map(factsOf);
    return new Map([...namesOf(seeds)].map((name) =>
      [name, together(name, seeds.map((facts) => facts.get(name) ?? "-"))]));
  }

  function describe(column) {
    const ids = column.split("+"), newest = ids.at(-1), facts = about[newest];
    const seed = facts.seed === null ? "" : `seed ${facts.seed}`;
    return {
      newest,
      kind: facts.kind,
      incomplete: facts.incomplete,
      title: [facts.name, facts.head].filter(Boolean).join(", "),
      test: [facts.dataset, facts.split].filter(Boolean).join(" "),
      setting: [facts.conditions, ids.length > 1 ? `${ids.length} seeds` : seed]
        .filter(Boolean).join(" · "),
    };
  }

  function head(column, columns) {
    const { newest, kind, incomplete, title, test, setting } = describe(column);
    const cell = make("th", "", { scope: "col" });
    const drop = make("button", "Remove", { type: "button", "aria-label": `Remove ${title}` });
    drop.addEventListener("click", () => {
      location.hash = columns.filter((other) => other !== column).join(",");
    });
    cell.append(make("a", title, { href: `record/${newest}.html` }), " ",
      make("span", kind, { class: `kind ${kind}` }));
    if (incomplete) cell.append(" ", make("span", "incomplete", { class: "kind incomplete" }));
    cell.append(make("small", [test, setting].filter(Boolean).join(" · ")), drop);
    return cell;
  }

  // Long names may break where their parts join.
  function label(name) {
    const cell = make("th", "", { scope: "row" });
    for (const part of name.split(/(?<=[./_])/)) cell.append(part, make("wbr"));
    return cell;
  }

  function offer(columns) {
    const groups = Map.groupBy(choices.map((ids) => ids.join("+"))
      .filter((column) => !columns.includes(column)), (column) => describe(column).test);
    add.replaceChildren(make("option", "choose a row of the table", { value: "" }));
    for (const [test, group] of groups) {
      const list = make("optgroup", "", { label: test });
      for (const column of group) {
        const { newest, kind, title, setting } = describe(column);
        const text = [title, setting].filter(Boolean).join(" · ");
        list.append(make("option", `${text} (${kind}, ${newest.slice(0, 8)})`,
          { value: column }));
      }
      add.append(list);
    }
  }

  function show() {
    const columns = chosen(), all = columns.map(factsOfColumn), names = namesOf(all);
    const body = make("tbody");
    let different = 0;
    for (const name of names) {
      const values = all.map((facts) => facts.get(name) ?? "-");
      const same = values.every((value) => value === values[0]);
      different += !same;
      if (same && differing.checked && columns.length > 1) continue;
      const row = make("tr", "", same || differing.checked ? {} : { class: "differs" });
      row.append(label(name), ...values.map((value) => make("td", value)));
      body.append(row);
    }
    const header = make("thead"), heads = make("tr");
    heads.append(make("td"), ...columns.map((column) => head(column, columns)));
    header.append(heads);
    table.replaceChildren(header, body);
    table.parentElement.hidden = !columns.length;
    document.getElementById("said").textContent = [
      "Choose rows here, or in the table of records.",
      "Add another to compare it with.",
    ][columns.length] ?? `${columns.length} columns, ${different} of ${names.size} facts differ.`;
    offer(columns);
  }

  // By a button, since with the keyboard every option on the way would be chosen.
  document.getElementById("adding").addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = [...chosen(), add.value].join(",");
  });
  differing.addEventListener("change", show);
  addEventListener("hashchange", show);
  show();
})();
