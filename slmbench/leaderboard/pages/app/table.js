// The table: rows are models, columns are metrics under a condition; only what is in sight is in the document.

import { breakable, columnsOf, costText, rowNotes, scoreCell } from "./cells.js";
import { columnKeyed, costOf, nameOf, rowNamed } from "./data.js";
import { button, choose, fill, h, replaced } from "./dom.js";
import { filterBar } from "./filter.js";
import { ranks } from "./forms.js";
import { peekAt, unpeek, unpeekSoon } from "./peek.js";
import { askedColumns, columnPicker } from "./picker.js";
import { address, amend, unknown } from "./route.js";

const AHEAD = 3;
// The width of a cost's column.
const COST = 104;

const SHOWS = [
  ["whiskers", "score, interval, rank"], ["score", "score alone"], ["interval", "interval in numbers"],
  ["chance", "share of the way from chance to best"], ["n", "items"],
];

export function tableView(page, params, { signal }) {
  const cell = SHOWS.some(([key]) => key === params.get("cell")) ? params.get("cell") : "whiskers";
  const shows = choose("Cell shows", SHOWS, cell, (value) => {
    state.cell = value;
    amend({ cell: value === "whiskers" ? "" : value });
    drawn.clear();
    draw();
  });
  const picker = columnPicker(page, params, signal, () => {
    columns = columnsOf(page, params);
    state.focus = [0, 0];
    head();
    refresh();
  });
  const bar = filterBar(page, params, () => refresh(), shows, picker);
  const state = { cell, sort: sortable(page, params.get("sort")) ? params.get("sort") : "", up: params.get("dir") === "up", focus: [0, 0] };
  const longest = Math.max(...page.rows.map((row) => row.model.length));
  const ranksLong = Math.max(1, ...page.rows.flatMap((row) => row.cells.map((made) => (made && made.rankLow ? ranks(made.rankLow, made.rankHigh).length : 0))));
  const picked = [params.get("a"), params.get("b")].filter((name) => rowNamed(page, name));
  let columns = columnsOf(page, params);
  let rows = [];
  const thead = h("thead");
  const tbody = h("tbody");
  // Position -> what the row is made of, of the rows in the document.
  const drawn = new Map();
  let sizes = { name: 0, wide: 1 };
  const cols = h("colgroup");
  const table = h("table.grid", { role: "grid", "aria-label": "Scores by model, by arrow keys" }, cols, thead, tbody);
  const frame = h("div.frame", { role: "region", "aria-label": "Scores", onscroll: () => requestAnimationFrame(draw) }, table);
  const tray = h("div.tray", { hidden: true });

  function head() {
    fill(cols, h("col.name"), columns.map((column) => h(`col.${column.kind}`)));
    table.setAttribute("aria-colcount", String(columns.length + 1));
    fill(thead, h("tr", { "aria-rowindex": "1", "data-row": "-1" },
      [{ key: "name", title: "Model", label: "Model", kind: "name" }, ...columns].map(headCell)));
    fit();
  }

  // Columns are as wide as the window lets them be, within reason; past that the frame scrolls.
  function fit() {
    const costs = columns.filter((column) => column.kind === "cost").length;
    const scores = Math.max(1, columns.length - costs);
    const room = (frame.parentElement || document.body).clientWidth - 2;
    const narrow = room < 700;
    const least = Math.max(narrow ? 96 : 112, 80 + 6.4 * ranksLong);
    // A long name takes more lines rather than half of the screen.
    const long = longest > (narrow ? 17 : 30);
    const name = narrow ? (long ? 152 : 148) : long ? Math.max(290, Math.min(400, room * 0.26)) : Math.max(230, Math.min(340, room * 0.21));
    frame.style.setProperty("--row", narrow && long ? "70px" : "46px");
    const wide = Math.max(least, Math.min(Math.max(156, least), Math.floor((room - name - costs * COST) / scores)));
    frame.style.setProperty("--name", `${name}px`);
    table.style.setProperty("--wide", `${wide}px`);
    sizes = { name, wide };
    table.style.setProperty("width", `${name + scores * wide + costs * COST}px`);
    frame.style.setProperty("--head", `${thead.offsetHeight}px`);
  }

  function headCell(column, at) {
    const sorted = state.sort === column.key;
    return h(`th.${column.kind}`, { scope: "col", title: column.title, "aria-sort": sorted ? (state.up ? "ascending" : "descending") : null },
      button([h("b", {}, breakable(column.label)), column.notes && column.notes.map((note) => h("small", {}, breakable(note)))],
        () => sortBy(column), { tabindex: stop(-1, at), "data-col": at }));
  }

  function sortBy(column) {
    const first = column.kind === "name" || column.kind === "cost" || (column.of && !column.of.up);
    if (state.sort !== column.key) [state.sort, state.up] = [column.key, Boolean(first)];
    else if (state.up === Boolean(first)) state.up = !first;
    else state.sort = "";
    amend({ sort: state.sort, dir: state.sort && state.up ? "up" : "" });
    // The head stays as it is: one layout for a sort, of the rows alone.
    [{ key: "name" }, ...columns].forEach((one, at) => {
      const th = thead.rows[0].cells[at];
      if (one.key === state.sort) th.setAttribute("aria-sort", state.up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
    refresh();
  }

  function refresh() {
    rows = sorted(page, bar.rows(), columns, state);
    drawn.clear();
    stopAt(rows.length ? Math.min(0, state.focus[0]) : -1, Math.max(0, state.focus[1]));
    if (frame.scrollTop) frame.scrollTop = 0;
    draw();
  }

  function draw() {
    // Before it is in the document nothing has a size; `shown` draws then.
    if (!table.isConnected) return;
    const height = rowHeight(table);
    const from = Math.max(0, Math.floor(frame.scrollTop / height) - AHEAD);
    const to = Math.min(rows.length, Math.ceil((frame.scrollTop + Math.max(frame.clientHeight, innerHeight - 200)) / height) + AHEAD);
    table.setAttribute("aria-rowcount", String(rows.length + 1));
    const sight = columnsInSight();
    const lines = spaced(inSight(from, to, state.focus[0]), rows.length, (at) => {
      if (!drawn.has(at)) drawn.set(at, line(rows[at], at));
      return lineUp(drawn.get(at), sight);
    }, (many) => pad(many * height));
    if (!rows.length) lines.push(h("tr", {}, h("td.nothing", { colspan: columns.length + 1 }, "No model has all of these words.")));
    replaced(tbody, lines);
    for (const at of Array.from(drawn.keys())) if (!drawn.get(at).element.isConnected) drawn.delete(at);
  }

  // The positions of the columns that the frame shows.
  function columnsInSight() {
    const [from, to] = [frame.scrollLeft, frame.scrollLeft + frame.clientWidth - sizes.name];
    let right = 0;
    const seen = [];
    columns.forEach((column, at) => {
      const left = right;
      right += column.kind === "cost" ? COST : sizes.wide;
      if (right > from - sizes.wide && left < to + sizes.wide) seen.push(at);
    });
    return seen.length ? inSight(seen[0], seen.at(-1) + 1, state.focus[1] - 1) : [];
  }

  // The cells that a row is short of are made, and those out of sight go.
  function lineUp(made, sight) {
    if (made.sight === String(sight)) return made.element;
    made.sight = String(sight);
    const cells = spaced(sight, columns.length, (position) => {
      if (!made.cells.has(position)) made.cells.set(position, cellAt(made, position));
      return made.cells.get(position);
    }, (many) => h("td", { colspan: many, "aria-hidden": "true" }));
    replaced(made.element, [made.name, ...cells]);
    for (const position of Array.from(made.cells.keys())) if (!made.cells.get(position).isConnected) made.cells.delete(position);
    return made.element;
  }

  function pad(pixels) {
    return h("tr.pad", { "aria-hidden": "true", "--high": `${pixels}px` }, h("td", { colspan: columns.length + 1 }));
  }

  function stop(at, column) {
    return state.focus[0] === at && state.focus[1] === column ? "0" : "-1";
  }

  // The grid has one tab stop; what is in it has the columns -1 (the box), 0 (the name), 1 and on.
  function stopAt(at, column) {
    table.querySelectorAll('[tabindex="0"]').forEach((one) => one.setAttribute("tabindex", "-1"));
    state.focus = [at, column];
    found(at, column)?.setAttribute("tabindex", "0");
  }

  function found(at, column) {
    return table.querySelector(`tr[data-row="${at}"] [data-col="${column}"]`);
  }

  function line(row, at) {
    const element = h("tr", { "aria-rowindex": String(at + 2), "data-row": String(at) });
    return { row, at, element, name: nameCell(row, at), cells: new Map(), sight: null };
  }

  function cellAt({ row, at }, position) {
    const column = columns[position];
    const place = { tabindex: stop(at, position + 1), "data-col": position + 1 };
    const made = column.kind === "cost" ? h("td.cost", place, costText(row, page, column)) : scoreCell(row, column, state.cell, place);
    made.setAttribute("aria-colindex", String(position + 2));
    return made;
  }

  function nameCell(row, at) {
    const box = h("input", { type: "checkbox", checked: picked.includes(row.name), "aria-label": `compare ${row.name}`, tabindex: stop(at, -1), "data-col": "-1", onchange: () => pick(row) });
    return h("th.name", { scope: "row", "aria-colindex": "1" }, h("label.tickbox", {}, box),
      h("a", { href: address("runs", { row: row.name }), title: row.name, tabindex: stop(at, 0), "data-col": "0" },
        h("b", {}, row.model), rowNotes(row)));
  }

  function pick(row) {
    const at = picked.indexOf(row.name);
    if (at >= 0) picked.splice(at, 1);
    else picked.push(row.name);
    ticked(picked.length > 2 ? picked.shift() : "");
  }

  // left: the model that a third one took the place of.
  function ticked(left = "") {
    amend({ a: picked[0] || "", b: picked[1] || "" });
    for (const { row, name } of drawn.values()) name.querySelector("input").checked = picked.includes(row.name);
    showTray(left);
  }

  function showTray(left = "") {
    tray.hidden = !picked.length;
    if (picked.length === 1) fill(tray, h("span", {}, h("b.a", {}, picked[0]), " is chosen. Choose another one to compare it with."));
    if (picked.length === 2) {
      const [a, b] = picked;
      fill(tray, h("a.go", { href: address("compare", { a, b }) }, "Is ", h("b.b", {}, b), " better than ", h("b.a", {}, a), "?"),
        left && h("small", {}, `Two at a time: ${left} is no longer chosen.`));
    }
    if (picked.length) tray.append(button("\u00d7", () => {
      picked.length = 0;
      ticked();
      found(...state.focus)?.focus();
    }, { "aria-label": "choose none", class: "close" }));
  }

  function keys(event) {
    if (!event.target.dataset.col || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape" && !event.defaultPrevented) bar.element.querySelector("input").focus();
    const reached = Math.max(1, Math.floor(frame.clientHeight / rowHeight(table)) - 2);
    const [row, column] = state.focus;
    const moves = {
      ArrowDown: [row + 1, column], ArrowUp: [row - 1, column], ArrowRight: [row, column + 1], ArrowLeft: [row, column - 1],
      PageDown: [row + reached, column], PageUp: [Math.max(0, row - reached), column], Home: [row, 0], End: [row, columns.length],
    };
    const move = event.key in moves && moves[event.key];
    if (!move) return;
    event.preventDefault();
    const at = Math.min(rows.length - 1, Math.max(-1, move[0]));
    stopAt(at, Math.min(columns.length, Math.max(at < 0 ? 0 : -1, move[1])));
    draw();
    const cell = found(...state.focus);
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  table.addEventListener("keydown", keys);
  table.addEventListener("focusin", (event) => {
    const column = event.target.dataset.col;
    if (column === undefined) return;
    stopAt(Number(event.target.closest("tr").dataset.row), Number(column));
    show(event.target.closest("td.score a, td.mean a"));
  });
  tbody.addEventListener("mouseover", (event) => show(event.target.closest("td.score a, td.mean a")));
  tbody.addEventListener("mouseleave", unpeekSoon);
  tbody.addEventListener("focusout", unpeek);
  const show = (link) => {
    const column = link && columns[Number(link.dataset.col) - 1];
    if (!column) return unpeek();
    const row = rows[Number(link.closest("tr").dataset.row)];
    return peekAt(link, page, row, column);
  };

  head();
  refresh();
  showTray();
  const alert = unknown(
    ...["a", "b"].map((side) => ["model", params.get(side), rowNamed(page, params.get(side))]), ...bar.asked, ...askedColumns(page, params),
    ["column to sort by", params.get("sort"), state.sort], ["cell", params.get("cell"), params.get("cell") === cell]);
  const element = h("section.view", { "aria-label": "Table" }, alert, bar.element, frame, tray, key(page));
  // The frame has no height before it is in the document.
  let size = "";
  const watcher = new ResizeObserver(() => {
    const now = `${element.clientWidth} ${innerHeight}`;
    if (size && size !== now) [fit(), draw()];
    size = now;
  });
  signal.addEventListener("abort", () => watcher.disconnect());
  watcher.observe(element);
  return { element, shown: () => [fit(), draw()], print: () => ({ rows, columns, told: [bar.words(), orderWords(page, state)] }) };
}

function sortable(page, key) {
  return key === "name" || (key === "mean" && page.aggregate) || columnKeyed(page, key) || page.costs.some((cost) => cost.key === key);
}

// What the rows are sorted by, as paper says it.
function orderWords(page, state) {
  if (!state.sort) return "";
  const column = columnKeyed(page, state.sort);
  const cost = page.costs.find((one) => one.key === state.sort);
  const what = column ? `${nameOf(column)}: ${column.metric}` : cost ? cost.label : state.sort === "mean" ? "the mean" : "name";
  return `Sorted by ${what}, ${state.up ? "ascending" : "descending"}.`;
}

function sorted(page, rows, columns, state) {
  if (!state.sort) return rows;
  const way = state.up ? 1 : -1;
  if (state.sort === "name") {
    const collator = new Intl.Collator("en", { numeric: true });
    return rows.slice().sort((a, b) => way * collator.compare(a.name, b.name));
  }
  const column = columns.find((one) => one.key === state.sort);
  const of = column ? column.of : columnKeyed(page, state.sort);
  const read = (row) => {
    if (column && column.kind === "cost") return costOf(row, page, column.key);
    const made = of ? row.cells[of.position] : row.mean;
    return made ? made.value : null;
  };
  const keyed = rows.map((row) => [read(row), row]);
  // What has no value comes last either way.
  keyed.sort(([a, one], [b, other]) => (a === null) - (b === null) || way * (a - b) || one.position - other.position);
  return keyed.map(([, row]) => row);
}

// Positions from `from` up to `to`, and the one of the tab stop: it is there wherever the table is scrolled to, so that it
// keeps the focus and can be reached.
function inSight(from, to, held) {
  const found = Array.from({ length: Math.max(0, to - from) }, (_, at) => from + at);
  if (held >= 0 && (held < from || held >= to)) found.splice(held < from ? 0 : found.length, 0, held);
  return found;
}

// What `make` makes of each position, and `gap` of each stretch of the `all` between them.
function spaced(positions, all, make, gap) {
  const made = [];
  let done = 0;
  for (const at of positions) {
    if (at > done) made.push(gap(at - done));
    made.push(make(at));
    done = at + 1;
  }
  if (all > done) made.push(gap(all - done));
  return made;
}

function rowHeight(table) {
  return Number.parseFloat(getComputedStyle(table).getPropertyValue("--row")) || 44;
}

function key(page) {
  return h("p.key", {},
    h("span.best", {}, "\u25c6 best here"), h("span.tied", {}, "\u25c7 not told apart from the best"),
    h("span", {}, "shade: place between the lowest and the highest score of the column"),
    h("span", {}, "line: 95% interval"), h("span", {}, "1\u20133: ranks that the data leaves open"),
    page.aggregate && h("span", {}, `Mean ${page.aggregate.about}`));
}
