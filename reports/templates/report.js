"use strict";
// Sorting, filtering and copying. Everything can be read without it: it only adds what does nothing else.
const sorters = [];
for (const body of document.querySelectorAll("table.sortable > tbody")) {
  const rows = [...body.rows].filter((row) => !("total" in row.dataset));
  const totals = [...body.rows].filter((row) => "total" in row.dataset);
  const heads = [...body.parentNode.tHead.rows].at(-1).cells;
  const dashes = new Set(["", "–"]);
  const value = (row, place) => {
    const cell = row.cells[place];
    const text = cell.dataset.by ?? cell.textContent.trim();
    return { text, number: amount(text), empty: dashes.has(text) };
  };
  const compare = (place) => {
    const values = new Map(rows.map((row) => [row, value(row, place)]));
    const numeric = [...values.values()].every((one) => one.empty || !Number.isNaN(one.number));
    return (way) => (first, second) => {
      const one = values.get(first), other = values.get(second);
      if (one.empty || other.empty) return one.empty - other.empty;
      return way * (numeric ? one.number - other.number : one.text.localeCompare(other.text, "en", { numeric: true }));
    };
  };
  const turns = ["ascending", "descending", "none"];
  for (const [place, head] of rows.length > 1 ? [...heads].entries() : []) {
    if (head.classList.contains("unsorted")) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    sorters.push([head, button]);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const turn = turns[(turns.indexOf(head.getAttribute("aria-sort")) + 1) % 3];
      for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", turn);
      const order = turn === "none" ? rows : [...rows].sort(compare(place)(turn === "ascending" ? 1 : -1));
      body.append(...order, ...totals);
    });
  }
}

// The amount that a whole cell is: `-0.3 ± 0.2`, `≥ 3 min 17 s` in seconds. NaN for all else: `2024-I-9`, `1.9.0`.
function amount(text) {
  const bare = text.replace(/^[≥<~±] ?/, "").replaceAll("−", "-").replace(/(?<=\d),(?=\d{3})/g, "");
  const parts = bare.match(/^(?:(\d+) d ?)?(?:(\d+) h ?)?(?:(\d+) min ?)?(?:([\d.]+) s)?$/);
  if (bare && parts) return [86400, 3600, 60, 1].reduce((sum, size, i) => sum + size * (parts[i + 1] ?? 0), 0);
  const number = bare.match(/^([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)%?(?:$| (?=[±×([✓✗≈○]|(?:of|to) \d|GPU|CPU))/);
  return number ? +number[1] : NaN;
}

const form = document.querySelector("form.filter");
if (form) {
  const lines = [...document.querySelectorAll("tr[data-verdict]")];
  const claims = lines.filter((line) => line.closest("#claims"));
  const status = form.querySelector("output");
  const apply = () => {
    const wanted = new FormData(form);
    const words = wanted.get("words").toLowerCase().split(/\s+/).filter(Boolean);
    for (const line of lines) {
      const text = line.textContent.toLowerCase();
      line.hidden = !(
        ["row", "benchmark", "verdict"].every((name) => [line.dataset[name], ""].includes(wanted.get(name))) &&
        words.every((word) => text.includes(word))
      );
    }
    const shown = claims.filter((line) => !line.hidden).length;
    status.textContent = `${shown} of ${claims.length} lines`;
  };
  form.hidden = false;
  form.addEventListener("input", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
}

for (const command of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const text = command.querySelector("code");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected: press Ctrl+C";
    }
  });
  command.append(button);
}

// On paper everything is open, and a head is repeated on each page only where it is no button.
addEventListener("beforeprint", () => {
  for (const [head, button] of sorters) head.replaceChildren(...button.childNodes);
  for (const one of document.querySelectorAll("details:not([open])")) {
    one.dataset.printed = "";
    one.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const [head, button] of sorters) {
    button.append(...head.childNodes);
    head.append(button);
  }
  for (const one of document.querySelectorAll("details[data-printed]")) {
    one.open = false;
    delete one.dataset.printed;
  }
});

addEventListener("hashchange", unfold);
unfold();
function unfold() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const around = named?.closest("details") ?? named?.querySelector(":scope > details");
  if (around && !around.open) {
    around.open = true;
    named.scrollIntoView();
  }
}
