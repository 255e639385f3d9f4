// What the table's columns are, and what stands in a cell of each.

import { cellWords, costOf, nameOf } from "./data.js";
import { h } from "./dom.js";
import { FORMS, NONE, intervalText, number, percent, ranks } from "./forms.js";
import { shownColumns, shownCosts } from "./picker.js";
import { address } from "./route.js";

// From this share of the model's parameters on, an adapter is not a small addition, and the page says so.
const LARGE = 0.05;

// What stands in one column. kind: mean, score or cost.
export function columnsOf(page, params) {
  const costs = shownCosts(page, params).map((cost) => ({ ...cost, kind: "cost", title: cost.about || cost.label, notes: [] }));
  const scores = shownColumns(page, params).map((column) => ({
    key: column.key, kind: "score", of: column, label: column.task, title: `${nameOf(column)}: ${column.metric}`, notes: headNotes(column),
    scale: scaleOf(page, (row) => row.cells[column.position], column.up), at: (row) => row.cells[column.position],
  }));
  const mean = page.aggregate && {
    key: "mean", kind: "mean", label: "Mean", title: `Mean ${page.aggregate.about}`, notes: [page.aggregate.label],
    scale: scaleOf(page, (row) => row.mean, true), at: (row) => row.mean,
  };
  return [...costs, ...(mean ? [mean] : []), ...scores];
}

function headNotes(column) {
  const notes = [column.metric];
  if (column.condition.label) notes.push(column.condition.label);
  const small = [column.n && `n = ${column.n}`, column.chance !== null && `chance ${number(column.chance)}`];
  notes.push(small.filter(Boolean).join(", "));
  if (!column.up) notes.push("lower is better");
  if (column.inProcess) notes.push("in process");
  return notes.filter(Boolean);
}

function scaleOf(page, read, up) {
  const found = page.rows.map(read).filter(Boolean);
  const values = found.map((cell) => cell.value);
  const ends = found.flatMap((cell) => (cell.known ? [cell.low, cell.high] : [cell.value]));
  const [least, most, low, high] = [Math.min(...values), Math.max(...values), Math.min(...ends), Math.max(...ends)];
  return {
    heat: (value) => (most > least ? ((up ? value - least : most - value) / (most - least)) * 100 : 0),
    at: (value) => (high > low ? ((value - low) / (high - low)) * 100 : 50),
  };
}

export function scoreCell(row, column, shows, place) {
  const made = column.at(row);
  const kind = column.kind;
  if (!made) return h(`td.${kind}.none`, place, NONE);
  const claim = made.claim === "best" ? ".best" : made.claim ? ".tied" : "";
  const whisker = made.known && shows === "whiskers";
  const set = { "--heat-at": (column.scale.heat(made.value) * 0.45).toFixed(1) };
  if (whisker) Object.assign(set, { "--low": column.scale.at(made.low).toFixed(1), "--high": column.scale.at(made.high).toFixed(1), "--at": column.scale.at(made.value).toFixed(1) });
  const words = column.of ? cellWords(made, column.of, { number, intervalText }) : meanWords(made);
  const href = column.of ? address("items", { row: row.name, column: column.key }) : address("runs", { row: row.name });
  return h(`td.${kind}${claim}${whisker ? ".whisker" : ""}`, set,
    h("a", { href, ...place, "aria-label": words },
      whisker && h("i", {}, made.rankLow !== null ? ranks(made.rankLow, made.rankHigh) : made.badges[0] || ""), cellText(made, column, shows)));
}

function cellText(made, column, shows) {
  if (shows === "interval") return made.known ? intervalText(made.low, made.high) : "no interval";
  if (shows === "n") return made.n === null || made.n === undefined ? NONE : String(made.n);
  if (shows === "chance" && column.of) {
    const { chance, best } = column.of;
    return chance === null || best === null || best === chance ? NONE : number((made.value - chance) / (best - chance));
  }
  return number(made.value);
}

function meanWords(made) {
  return `mean ${number(made.value)}, ${made.known ? `95% interval ${intervalText(made.low, made.high)}` : "no interval"}`;
}

export function costText(row, page, column) {
  const value = costOf(row, page, column.key);
  if (value === null) return NONE;
  const whole = column.key === "adapter_parameters" && costOf(row, page, "parameters");
  const shown = FORMS[column.form](value);
  return whole ? h("span", { class: value / whole >= LARGE ? "large" : null }, `${shown} (${percent(value / whole)})`) : shown;
}

export function rowNotes(row) {
  const notes = [row.quant, row.adapter && `+ ${row.adapter}`, row.seeds > 1 && `${row.seeds} seeds`].filter(Boolean);
  return (notes.length > 0 || row.badges.length > 0) && h("span", {}, notes.map((note) => `${note} `), row.badges.map((badge) => h("em", {}, badge)));
}

export function breakable(text) {
  return text.split(/(?<=[/_@-])/).flatMap((part, at) => (at ? [h("wbr"), part] : [part]));
}
