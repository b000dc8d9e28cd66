// The table of records: sorting, filters, choice for comparison.
"use strict";

(() => {
  const entries = read("entries");
  const body = document.querySelector("#records tbody");
  const rows = [...body.rows];
  const heads = [...document.querySelectorAll("#records thead button")];
  const filters = document.getElementById("filters").elements;
  const NUMBERS = ["value", "params", "flops", "latency", "memory"];
  const more = document.getElementById("more");
  let most = 100, passed = new Set(rows);
  const text = new Intl.Collator(undefined, { numeric: true });

  function value(entry, key) {
    return key === "value" ? entry.figures[entry.metric].mean : entry[key];
  }

  function sort(key, descending) {
    const sign = descending ? -1 : 1;
    const compare = NUMBERS.includes(key) ? (a, b) => a - b : text.compare;
    const order = entries.map((entry, place) => [value(entry, key), place]);
    order.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      return sign * compare(a, b) || i - j;
    });
    body.append(...order.map(([, place]) => rows[place]));
    reveal();
  }

  function onHead(button) {
    const head = button.closest("th"), before = head.getAttribute("aria-sort");
    const key = button.dataset.key;
    // The best first: most of a figure, least of a cost.
    const first = key === "value" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const now = before === first ? second : first;
    for (const other of heads) other.closest("th").removeAttribute("aria-sort");
    head.setAttribute("aria-sort", now);
    sort(key, now === "descending");
  }

  function passes(entry) {
    const { task, least, most } = filters;
    if (task.value && !entry.tasks.includes(task.value)) return false;
    for (const key of ["dataset", "family", "kind"]) {
      const wanted = filters[key].value;
      if (wanted && entry[key] !== wanted) return false;
    }
    if (least.value && !(entry.params !== null && entry.params >= +least.value)) return false;
    if (most.value && !(entry.params !== null && entry.params <= +most.value)) return false;
    const row = `${entry.name} ${entry.head} ${entry.conditions}`.toLowerCase();
    return row.includes(filters.text.value.trim().toLowerCase());
  }

  // Browsers take long to lay out hundreds of rows, so the first alone are shown.
  function reveal() {
    let count = 0;
    for (const row of body.rows) row.hidden = !passed.has(row) || ++count > most;
    more.hidden = passed.size <= most;
    more.textContent = `Show all ${passed.size} rows`;
  }

  function filter() {
    const shown = entries.filter(passes);
    passed = new Set(rows.filter((row, place) => passes(entries[place])));
    reveal();
    document.getElementById("count").textContent = shown.length === entries.length
      ? `${shown.length} rows` : `${shown.length} of ${entries.length} rows`;
    drawPareto(shown);
  }

  function choose() {
    const rows = [...body.querySelectorAll("input:checked")].map((box) => box.value);
    const link = document.getElementById("compare");
    link.href = "compare.html" + (rows.length ? "#" + rows.join(",") : "");
    link.textContent = "Compare ticked rows" + (rows.length ? ` (${rows.length})` : "");
  }

  for (const button of heads) button.addEventListener("click", () => onHead(button));
  body.addEventListener("change", choose);
  more.addEventListener("click", () => {
    most = Infinity;
    reveal();
  });
  const form = document.getElementById("filters");
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  // The fields are empty only after this event.
  form.addEventListener("reset", () => setTimeout(filter));
  choose();
  filter();
})();
