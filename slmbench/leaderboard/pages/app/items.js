// The items of one model under one task, those that it failed first; against another one, those that flipped first.

import { columnKeyed, load, nameOf, rowData, rowNamed } from "./data.js";
import { choose, fill, h } from "./dom.js";
import { amend, unknown } from "./route.js";
import { itemBrowser } from "./browser.js";
import { ordered, verdictsOfOne, verdictsOfTwo } from "./verdicts.js";

export function itemsView(page, params, { signal }) {
  const state = {
    row: rowNamed(page, params.get("row")) || page.rows[0],
    against: rowNamed(page, params.get("against")),
  };
  state.column = columnKeyed(page, params.get("column"));
  if (!state.column || !state.row.cells[state.column.position]) {
    state.column = page.columns.find((column) => column.primary && state.row.cells[column.position]) || page.columns.find((column) => state.row.cells[column.position]);
  }
  const place = h("div.items", { "aria-busy": "true" });
  const names = page.rows.map((row) => [row.name, row.name]);
  const change = (values) => {
    // What the address named wrongly doesn't stay in it.
    amend({ row: state.row.name, against: state.against ? state.against.name : "", ...values, item: "", only: "", find: "" });
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const columns = page.columns.filter((column) => state.row.cells[column.position]).map((column) => [column.key, `${nameOf(column)}: ${column.metric}`]);
  const others = page.rows.filter((row) => row !== state.row && state.column && row.cells[state.column.position]);
  const bar = h("div.bar", {},
    choose("Model", names, state.row.name, (value) => change({ row: value }), { kind: "wide" }),
    state.column && choose("Task", columns, state.column.key, (value) => change({ column: value }), { kind: "wide" }),
    choose("against", [["", "none"], ...others.map((row) => [row.name, row.name])], state.against ? state.against.name : "", (value) => change({ against: value }), { kind: "wide" }));

  async function shown() {
    if (!state.column) return fill(place, h("p.nothing", {}, "This model has no run."));
    try {
      const sides = [await sideOf(state.row, state.column, state.against ? "b" : "alone", state.against ? "B" : "")];
      if (state.against && state.against.cells[state.column.position]) sides.unshift(await sideOf(state.against, state.column, "a", "A"));
      const open = await browse(state.column, sides, params, signal);
      if (signal.aborted) return undefined;
      place.removeAttribute("aria-busy");
      fill(place, open.element);
      open.shown();
    } catch (error) {
      place.removeAttribute("aria-busy");
      fill(place, h("p.nothing", { role: "alert" }, error.message));
    }
    return undefined;
  }

  const asked = params.get("column");
  const scored = (row, column) => Boolean(row && column && row.cells[column.position]);
  const alert = unknown(
    ["model", params.get("row"), rowNamed(page, params.get("row"))],
    ["model", params.get("against"), state.against],
    ["column", asked, columnKeyed(page, asked)],
    [`score of ${state.row.name} in`, columnKeyed(page, asked) && asked, scored(state.row, columnKeyed(page, asked))],
    [`score of ${state.against ? state.against.name : ""} in`, state.against && state.column && state.column.key, scored(state.against, state.column)]);
  const element = h("section.view", { "aria-label": "Items" }, alert, h("h2.unseen", {}, "Items"), bar, place);
  return { element, shown };
}

// over: another column of the same metric, in whose items' order the side is wanted.
export async function sideOf(row, column, tone, letter, over = column) {
  const data = await rowData(row);
  const runs = data.runs.filter((run) => run.cond === column.cond);
  const scores = data.byColumn.get(column.position);
  if (!scores) throw new Error(`${row.name} has no item scores of ${nameOf(column)}: ${column.metric}`);
  const side = { row, runs, scores, tone, label: letter ? `${letter}: ${row.name}` : row.name };
  if (over.cond === column.cond) return side;
  const place = await placesOf(column, over);
  return { ...side, ...place, label: `${letter}: ${column.condition.label}`, scores: moved(scores, place.place) };
}

// The items of a column's condition, and where in them each item of another condition is, -1 if it isn't.
export async function placesOf(column, over) {
  const [items, wanted] = await Promise.all([load(column.condition.items), load(over.condition.items)]);
  const known = new Map(items.ids.map((id, at) => [id, at]));
  return { items, place: wanted.ids.map((id) => known.get(id) ?? -1) };
}

export function moved(scores, place) {
  return Float64Array.from(place, (at) => (at < 0 ? NaN : scores[at]));
}

// What the sandbox said of each item, if every item's texts are there.
function told(run, items) {
  if (!run || !run.verdicts || items.texts) return null;
  return items.ids.map((_, at) => run.verdicts[1][at] === null ? "" : run.verdicts[0][run.verdicts[1][at]]);
}

// sides: one model, or A and B.
export async function browse(column, sides, params, signal) {
  const items = await load(column.condition.items);
  const [first, second] = sides.map((side) => side.scores);
  const verdicts = second ? verdictsOfTwo(first, second, column.up) : verdictsOfOne(first, column.up, told(sides[0].runs[0], items));
  const sizes = verdicts.binary ? null : Array.from(first, (score, at) => (second ? Math.abs(second[at] - score) : column.up ? -score : score));
  return itemBrowser(items, sides, verdicts, ordered(verdicts, sizes, items.texts), params, column, signal);
}
