// Which rows are looked at: by words and sizes, family, upper size. The table and the plot share it, and the address.

import { choose, h } from "./dom.js";
import { costOf } from "./data.js";
import { count, passes, plural, readFilter } from "./forms.js";
import { amend } from "./route.js";

const SIZES = [1e8, 2e8, 5e8, 1e9, 2e9, 4e9, 1e10];

// The bar above a view, and what it lets through. onchange: called after each change.
export function filterBar(page, params, onchange, ...more) {
  const state = { q: params.get("q") || "", family: params.get("family") || "", size: params.get("size") || "" };
  const told = h("output.told", { "aria-live": "polite" });
  const rows = () => {
    const filter = readFilter(state.q);
    const found = page.rows.filter((row) => {
      const parameters = costOf(row, page, "parameters");
      if (state.family && row.family !== state.family) return false;
      if (state.size && (parameters === null || parameters > Number(state.size))) return false;
      return passes(filter, row.search, parameters);
    });
    const all = plural(page.rows.length, "model");
    const some = found.length === page.rows.length ? all : `${found.length} of ${all}`;
    const unclear = filter.unclear.map((part) => `\u201c${part}\u201d`).join(", ");
    told.textContent = unclear ? `${some}; ${unclear} is no bound, which is like <2b or >=500m` : some;
    return found;
  };
  const changed = () => {
    amend(state);
    onchange();
  };
  const input = h("input", {
    type: "search", placeholder: "name, family, size: qwen <2b", value: state.q, spellcheck: "false",
    oninput: () => {
      state.q = input.value;
      changed();
    },
  });
  const set = (key) => (value) => {
    state[key] = value;
    changed();
  };
  const families = counted(page.rows.map((row) => row.family).filter(Boolean));
  const parameters = page.rows.map((row) => costOf(row, page, "parameters")).filter((value) => value !== null);
  const bounds = SIZES.filter((size) => parameters.some((value) => value > size) && parameters.some((value) => value <= size));
  const element = h("div.bar", {},
    h("label.choice", {}, h("span", {}, "Filter"), input),
    families.length > 1 && choose("Family", [["", "all"], ...families.map(([name, n]) => [name, `${name} (${n})`])], state.family, set("family")),
    bounds.length > 0 && choose("Up to", [["", "any size"], ...bounds.map((size) => [String(size), count(size).replace(".0", "")])], state.size, set("size")),
    more, told);
  const asked = [
    ["family", state.family, families.some(([name]) => name === state.family)],
    ["size", state.size, Number.isFinite(Number(state.size))],
  ];
  // The same as paper has it: which rows these are, of how many.
  const words = () => {
    const narrowed = [
      state.q && `filter \u201c${state.q}\u201d`, state.family && `family ${state.family}`, state.size && `up to ${count(Number(state.size)).replace(".0", "")}`,
    ].filter(Boolean);
    return `${told.textContent}${narrowed.length ? ` (${narrowed.join(", ")})` : ""}.`;
  };
  return { element, rows, asked, words };
}

function counted(names) {
  const found = new Map();
  for (const name of names) found.set(name, (found.get(name) || 0) + 1);
  return Array.from(found).sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]));
}
