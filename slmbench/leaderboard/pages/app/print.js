// What goes to paper: every row of the table, its columns in parts that a page is wide enough for.

import { fill, h } from "./dom.js";
import { NONE, intervalText, number, ranks } from "./forms.js";
import { breakable, costText } from "./cells.js";

const COLUMNS = 6;

export function paper(page, made) {
  const { rows, columns, told } = made;
  const parts = [];
  // As many in each part as in any other.
  const own = Math.ceil(columns.length / Math.ceil(columns.length / COLUMNS));
  for (let from = 0; from < columns.length; from += own) parts.push(columns.slice(from, from + own));
  const notices = page.notices.map(([kind]) => h("li", {}, kind));
  return fill(h("section.paper"), h("p", {}, told.filter(Boolean).join(" ")),
    notices.length > 0 && [h("h2", {}, "Before you read on"), h("ul", {}, notices)], parts.map((part) => h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Model"), part.map((column) => h("th", { scope: "col" }, breakable(column.label), column.notes.map((note) => h("small", {}, breakable(note))))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.name, row.badges.map((badge) => h("em", {}, badge))),
      part.map((column) => cell(row, page, column))))))),
  h("p", {}, "\u25c6 best here; \u25c7 not told apart from the best; below a score its 95% interval, then the ranks that the data leaves open."));
}

function cell(row, page, column) {
  if (column.kind === "cost") return h("td", {}, costText(row, page, column));
  const made = column.at(row);
  if (!made) return h("td", {}, NONE);
  const mark = made.claim === "best" ? "\u25c6 " : made.claim ? "\u25c7 " : "";
  return h("td", {}, mark, number(made.value), made.known && h("small", {}, intervalText(made.low, made.high)),
    made.rankLow && h("small", {}, `rank ${ranks(made.rankLow, made.rankHigh)}`));
}
