// Quality against what it costs: every model a dot with its interval, and the front that none beats at its cost.

import { columnKeyed, costOf, nameOf } from "./data.js";
import { choose, fill, h, plainTable, s } from "./dom.js";
import { filterBar } from "./filter.js";
import { FORMS, NONE, intervalText, number, plural } from "./forms.js";
import { address, amend, unknown } from "./route.js";

const HUES = 8;
// More dots than these leave no room for names between them; more bases than these would be nothing but names.
const CROWD = 60;
const MOST_BASES = 12;

export function plotView(page, params, { signal }) {
  const qualities = page.columns.map((column) => [column.key, `${nameOf(column)}: ${column.metric}`]);
  if (page.aggregate) qualities.unshift(["", `Mean of ${page.aggregate.label}`]);
  const known = page.costs.filter((cost) => page.rows.some((row) => costOf(row, page, cost.key) !== null));
  const state = { y: params.get("y") || "", x: params.get("x") || "" };
  if (!known.some((cost) => cost.key === state.x)) state.x = known.length ? startingCost(page, known).key : "";
  if (!page.aggregate && !columnKeyed(page, state.y)) state.y = (page.columns.find((column) => column.primary) || page.columns[0]).key;
  const set = (key) => (value) => {
    state[key] = value;
    amend({ [key]: value });
    draw();
  };
  const bar = filterBar(page, params, () => draw(),
    choose("Quality", qualities, state.y, set("y"), { kind: "wide" }),
    known.length > 0 && choose("against", known.map((cost) => [cost.key, cost.label.toLowerCase()]), state.x, set("x")));
  const figure = h("div.figure");
  const beside = h("div");
  const families = familyHues(page);

  function draw() {
    const cost = known.find((one) => one.key === state.x);
    const column = columnKeyed(page, state.y);
    if (!cost) return fill(figure, h("p.nothing", {}, "No run says what it cost."));
    const rows = bar.rows();
    const points = pointsOf(page, rows, column, cost);
    const front = new Set(frontOf(points, column ? column.up : true));
    const label = column ? `${nameOf(column)}: ${column.metric}` : `Mean of ${page.aggregate.label}`;
    fill(figure,
      h("h2", {}, label, " ", h("small", {}, `against ${cost.label.toLowerCase()}${column && !column.up ? ", lower is better" : ""}`)),
      points.length ? drawn(points, front, label, column, cost, families, figure.clientWidth || 1000) : h("p.nothing", {}, "No model here has both."),
      absent(page, rows, points, label, cost),
      legend(points, families));
    fill(beside, pointTable(points, front, label, cost));
    return undefined;
  }

  const alert = unknown(...bar.asked,
    ["quality", params.get("y"), columnKeyed(page, params.get("y"))],
    ["cost", params.get("x"), known.some((cost) => cost.key === params.get("x"))]);
  const element = h("section.view", { "aria-label": "Plot" }, alert, bar.element, figure, beside);
  let width = 0;
  const watcher = new ResizeObserver(() => {
    if (figure.clientWidth && figure.clientWidth !== width) {
      width = figure.clientWidth;
      draw();
    }
  });
  watcher.observe(figure);
  signal.addEventListener("abort", () => watcher.disconnect());
  return { element, shown: draw };
}

// Which models aren't drawn, and what they lack.
function absent(page, rows, points, label, cost) {
  const drawnRows = new Set(points.map((point) => point.row));
  const left = rows.filter((row) => !drawnRows.has(row));
  if (!left.length) return null;
  const without = (some, what) => some.length > 0 && `no ${what}: ${listed(some.map((row) => row.name))}`;
  const costless = left.filter((row) => costOf(row, page, cost.key) === null);
  const parts = [without(costless, cost.label.toLowerCase()), without(left.filter((row) => !costless.includes(row)), `score of ${label}`)];
  return h("p.absent", {}, `${points.length} of ${plural(rows.length, "model")} drawn. The others have `, parts.filter(Boolean).join("; they have "), ".");
}

function listed(names) {
  const most = 6;
  return names.slice(0, most).join(", ") + (names.length > most ? ` and ${names.length - most} more` : "");
}

// The first cost that models differ in.
function startingCost(page, known) {
  return known.find((cost) => new Set(page.rows.map((row) => costOf(row, page, cost.key))).size > 1) || known[0];
}

export function pointsOf(page, rows, column, cost) {
  return rows.flatMap((row) => {
    const made = column ? row.cells[column.position] : row.mean;
    const x = costOf(row, page, cost.key);
    if (!made || x === null) return [];
    return [{ row, x, y: made.value, low: made.low, high: made.high, known: made.known, made }];
  });
}

// Points that no other one is at least as good and as cheap as, and better in one of the two; cheapest first.
export function frontOf(points, up) {
  const better = (a, b) => (up ? a > b : a < b);
  const order = points.slice().sort((a, b) => a.x - b.x || (better(a.y, b.y) ? -1 : a.y === b.y ? 0 : 1));
  const front = [];
  for (const point of order) {
    const last = front[front.length - 1];
    if (!last || better(point.y, last.y) || (point.y === last.y && point.x === last.x)) front.push(point);
  }
  return front;
}

function familyHues(page) {
  const order = [];
  for (const row of page.rows) if (row.family && !order.includes(row.family)) order.push(row.family);
  return new Map(order.map((name, at) => [name, at < HUES ? `f${at}` : "other"]));
}

function drawn(points, front, label, column, cost, families, width) {
  const high = Math.max(300, Math.min(520, width * 0.48));
  const box = { left: 52, right: width - 18, top: 30, bottom: high - 50 };
  const x = axis(points.map((point) => point.x), box.left + 10, box.right - 24);
  const ends = points.flatMap((point) => (point.known ? [point.low, point.high, point.y] : [point.y]));
  const y = linear(Math.min(...ends), Math.max(...ends), box.bottom - 6, box.top + 8);
  const at = (point) => [x.at(point.x), y.at(point.y)];
  const ordered = frontOf(points.filter((point) => front.has(point)), column ? column.up : true);
  const steps = ordered.flatMap((point, i) => {
    const [px, py] = at(point);
    return i ? [[px, at(ordered[i - 1])[1]], [px, py]] : [[px, py]];
  });
  if (ordered.length) steps.push([box.right, at(ordered[ordered.length - 1])[1]]);
  const dots = points.slice().sort((a, b) => front.has(a) - front.has(b));
  return s("svg.plot", { viewBox: `0 0 ${width} ${high}`, width, height: high, role: "group", "aria-label": `${points.length} models, ${ordered.length} on the front; the table below has them all` },
    y.ticks.map((tick) => [
      s("line.rule", { x1: box.left, x2: box.right, y1: y.at(tick), y2: y.at(tick) }),
      s("text.tick.end", { x: box.left - 8, y: y.at(tick) + 4 }, tidy(tick)),
    ]),
    s("text.tick.start", { x: 2, y: 12 }, `${label}${column && !column.up ? " (lower is better)" : ""}`),
    s("text.tick.end", { x: box.right, y: high - 6 }, `${cost.label}${x.isLog ? " (logarithmic)" : ""} \u2192`),
    x.ticks.map((tick) => s("text.tick.middle", { x: x.at(tick), y: box.bottom + 20 }, tick === 0 ? "0" : FORMS[cost.form](tick))),
    points.filter((point) => point.known).map((point) => {
      const [px] = at(point);
      return s(`line.error${front.has(point) ? ".on" : ""}`, { x1: px, x2: px, y1: y.at(point.low), y2: y.at(point.high) });
    }),
    steps.length > 1 && s("polyline.front", { points: steps.map((pair) => pair.map((value) => value.toFixed(1)).join(",")).join(" ") }),
    dots.map((point) => {
      const [px, py] = at(point);
      const shape = `dot.${families.get(point.row.family) || "other"}${front.has(point) ? ".on" : ""}`;
      const told = `${point.row.name}: ${number(point.y)}${point.known ? ` (${intervalText(point.low, point.high)})` : ""}, ${FORMS[cost.form](point.x)}${front.has(point) ? ", on the front" : ""}`;
      return s("a", { href: address("runs", { row: point.row.name }), "aria-label": told, tabindex: front.has(point) ? null : "-1" },
        s("circle.reach", { cx: px, cy: py, r: 11 }), mark(shape, isMade(point.row), px, py, front.has(point) ? 6 : 4.5), s("title", {}, told));
    }),
    labels(named(points, ordered), points.length > CROWD ? ordered : points, at, box));
}

// Whether a row is a model with an adapter, or one that was trained or merged: a model as it was published is neither.
function isMade(row) {
  return row.adapter !== null || row.method !== null;
}

function mark(shape, made, x, y, r) {
  if (!made) return s(`circle.${shape}`, { cx: x, cy: y, r });
  const side = r * 1.7;
  return s(`rect.${shape}`, { x: x - side / 2, y: y - side / 2, width: side, height: side, transform: `rotate(45 ${x.toFixed(1)} ${y.toFixed(1)})` });
}

// The points whose names are written: the front's, and the models that others were made from, unless they are many.
function named(points, ordered) {
  const bases = points.filter((point) => !isMade(point.row) && !ordered.includes(point));
  return bases.length > MOST_BASES ? ordered : [...ordered, ...bases];
}

// Their names, each where no other name and no dot is; left out if there is no such place.
function labels(these, dots, at, box) {
  const taken = dots.map((point) => {
    const [px, py] = at(point);
    return [px - 6, py - 6, px + 6, py + 6];
  });
  return these.map((point) => {
    const [px, py] = at(point);
    const words = point.row.name.length > 34 ? `${point.row.name.slice(0, 33)}\u2026` : point.row.name;
    const wide = words.length * 6.4;
    const places = [[px + 10, py - 10, "start"], [px - 10, py - 10, "end"], [px + 10, py + 18, "start"], [px - 10, py + 18, "end"], [px, py - 16, "middle"]];
    for (const [lx, ly, anchor] of places) {
      const left = anchor === "start" ? lx : anchor === "end" ? lx - wide : lx - wide / 2;
      const own = [left, ly - 11, left + wide, ly + 4];
      const inside = own[0] > box.left && own[2] < box.right + 14 && own[1] > 0;
      if (!inside || taken.some((other) => own[0] < other[2] && own[2] > other[0] && own[1] < other[3] && own[3] > other[1])) continue;
      taken.push(own);
      return s(`text.label.${anchor}`, { x: lx, y: ly }, words);
    }
    return null;
  });
}

function legend(points, families) {
  const found = Array.from(new Set(points.map((point) => point.row.family).filter(Boolean)));
  const sign = (kind, made = false) => s("svg", { viewBox: "0 0 14 14", width: 14, height: 14, "aria-hidden": "true" }, mark(`dot.${kind}`, made, 7, 7, 4.5));
  return h("p.key", {},
    points.some((point) => isMade(point.row)) && [h("span", {}, sign("other"), "a model as it is"), h("span", {}, sign("other", true), "with an adapter, trained or merged")],
    h("span", {}, sign("other.on"), "filled: on the Pareto front, by means alone"),
    h("span", {}, "upright line: 95% interval"),
    found.length > 1 && found.filter((name) => families.get(name) !== "other").map((name) => h("span", {}, sign(families.get(name)), name)));
}

function pointTable(points, front, label, cost) {
  const order = points.slice().sort((a, b) => front.has(b) - front.has(a) || a.x - b.x || a.row.position - b.row.position);
  const rows = order.map((point) => [
    h("a", { href: address("runs", { row: point.row.name }) }, point.row.name), FORMS[cost.form](point.x), number(point.y),
    point.known ? intervalText(point.low, point.high) : NONE, front.has(point) ? "on the front" : "",
  ]);
  return h("details", {}, h("summary", {}, "The same as a table"),
    plainTable(`${label} against ${cost.label.toLowerCase()}`, ["Model", cost.label, "Score", "95% interval", "Front"], rows, ".costs"));
}

// An axis of costs: logarithmic if they differ by more than fourfold, with a place for nothing at its left.
function axis(values, from, to) {
  const positive = values.filter((value) => value > 0);
  const least = positive.length ? Math.min(...positive) : 1;
  const most = positive.length ? Math.max(...positive) : 1;
  const nothing = values.some((value) => value === 0);
  if (most === least && !nothing) return { ticks: [most], at: () => (from + to) / 2 };
  if (most <= least * 4) return linear(nothing ? 0 : least, most, from, to);
  const start = nothing ? from + 60 : from;
  const place = (value) => start + ((Math.log(value) - Math.log(least)) / (Math.log(most) - Math.log(least))) * (to - start);
  const ticks = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power += 1) {
    for (const times of most / least > 300 ? [1] : most / least > 30 ? [1, 3] : [1, 2, 5]) {
      const tick = times * 10 ** power;
      if (tick >= least * 0.999 && tick <= most * 1.001) ticks.push(tick);
    }
  }
  if (nothing) ticks.unshift(0);
  return { ticks, isLog: true, at: (value) => (value > 0 ? place(value) : from) };
}

function linear(low, high, from, to) {
  if (high <= low) [low, high] = [low - (Math.abs(low) * 0.05 || 0.5), high + (Math.abs(high) * 0.05 || 0.5)];
  const rough = (high - low) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const apart = [1, 2, 2.5, 5, 10].map((times) => unit * times).find((step) => step >= rough * (1 - 1e-9));
  const ticks = [];
  for (let tick = Math.ceil(low / apart - 1e-9) * apart; tick <= high + apart * 1e-6; tick += apart) ticks.push(tick);
  return { ticks, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function tidy(value) {
  return String(Number(value.toPrecision(4))).replace("-", "\u2212");
}
