// Is B better than A? Differences on the same items with their intervals, what B costs, and the items that flipped.

import { columnKeyed, costOf, load, nameOf, rowData, rowNamed } from "./data.js";
import { button, choose, fill, h, plainTable } from "./dom.js";
import { FORMS, NONE, intervalText, number, pValue, ranks, signed } from "./forms.js";
import { browse, moved, placesOf, sideOf } from "./items.js";
import { comparePair } from "./pairs.js";
import { amend, unknown } from "./route.js";

export function compareView(page, params, { signal }) {
  const [a, b] = startingPair(page, params);
  const place = h("div", { "aria-busy": "true" });
  // Of the items of one line, which go when another line is chosen.
  let browsing = new AbortController();
  const names = page.rows.map((row) => [row.name, row.name]);
  const change = (values) => {
    // What the address named wrongly doesn't stay in it.
    amend({ a: a.name, b: b.name, column: columnKeyed(page, params.get("column")) ? params.get("column") : "", ...values, item: "", only: "", find: "" });
    window.dispatchEvent(new HashChangeEvent("hashchange"));
  };
  const question = h("h2.question", {}, "Is ",
    h("span.letter.b", {}, "B"), choose("B", names, b.name, (value) => change({ b: value }), { hidden: true, kind: "b" }), " better than ",
    h("span.letter.a", {}, "A"), choose("A", names, a.name, (value) => change({ a: value }), { hidden: true, kind: "a" }), "? ",
    button("swap", () => change({ a: b.name, b: a.name }), { class: "plainly" }));

  async function shown() {
    try {
      const wanted = columnKeyed(page, params.get("column"));
      const every = params.get("metrics") === "all" || (wanted !== null && !wanted.primary);
      const found = await (a === b ? ownComparisons : comparisons)(page, a, b, every);
      if (signal.aborted) return undefined;
      if (!found.length) return fill(place, h("p.nothing", {}, a !== b ? "These two have no task under the same condition in common." : "Choose two different models. One that was asked in several ways can be compared with itself."));
      const chosen = found.find((one) => one.column.key === params.get("column")) || found.find((one) => one.made && one.made.p < 0.05) || found[0];
      const items = h("div");
      const list = h("div.card");
      const drawList = (current) => fill(list, differences(found, current, every, pick, change));
      async function pick(one) {
        browsing.abort();
        browsing = new AbortController();
        amend({ column: one.column.key });
        drawList(one);
        await showItems(one);
      }
      const showItems = async (one) => {
        const own = AbortSignal.any([signal, browsing.signal]);
        const sides = [await sideOf(a, one.under, "a", "A", one.column), await sideOf(b, one.column, "b", "B")];
        if (a === b) sides[1].label = `B: ${one.column.condition.label}`;
        // Another task's items must not come up under this one's filters.
        const open = await browse(one.column, sides, one === chosen ? params : new URLSearchParams(), own);
        if (own.aborted) return;
        fill(items, h("div.card", {}, h("h2", {}, "Items: ", lineName(one), " ", h("small", {}, one.column.metric)), open.element));
        open.shown();
      };
      drawList(chosen);
      fill(place, h("p.answer", {}, sentence(found, b), a !== b && means(page, a, b)), h("div.two", {}, list, h("div.card", {}, costs(page, a, b))), items);
      await showItems(chosen);
    } catch (error) {
      fill(place, h("p.nothing", { role: "alert" }, error.message));
    } finally {
      place.removeAttribute("aria-busy");
    }
    return undefined;
  }

  const alert = unknown(
    ["model", params.get("a"), rowNamed(page, params.get("a"))], ["model", params.get("b"), rowNamed(page, params.get("b"))],
    ["column", params.get("column"), columnKeyed(page, params.get("column"))]);
  const element = h("section.view.compare", { "aria-label": "Compare" }, alert, question, place);
  return { element, shown };
}

// The two that the address names; else the first row, and what it is most naturally set against: its base, or the next.
function startingPair(page, params) {
  const b = rowNamed(page, params.get("b")) || page.rows.find((row) => row.name !== params.get("a"));
  const named = rowNamed(page, params.get("a"));
  const base = b.adapter === null ? null : page.rows.find((row) => row.adapter === null && row.model === b.model && row.quant === b.quant);
  return [named || base || page.rows.find((row) => row !== b) || b, b];
}

async function comparisons(page, a, b, every) {
  const [first, second] = await Promise.all([rowData(a), rowData(b)]);
  const columns = page.columns.filter((column) => (every || column.primary) && first.byColumn.has(column.position) && second.byColumn.has(column.position));
  return Promise.all(columns.map(async (column) => {
    const clusters = column.condition.clustered ? (await load(column.condition.items)).clusters : null;
    const made = comparePair(first.seeds.get(column.position), second.seeds.get(column.position), { up: column.up, clusters, bounds: column.bounds });
    return { column, under: column, made, from: a.cells[column.position], to: b.cells[column.position] };
  }));
}

// Of one model: each other condition of a task (B) against its first one (A), on the items that both have.
async function ownComparisons(page, row, _, every) {
  const data = await rowData(row);
  const has = (column) => data.byColumn.has(column.position);
  const pairs = page.columns.filter((column) => (every || column.primary) && has(column)).flatMap((column) => {
    const under = page.columns.find((one) => one.task === column.task && one.metric === column.metric && has(one));
    return under === column ? [] : [[under, column]];
  });
  return Promise.all(pairs.map(async ([under, column]) => {
    const { place } = await placesOf(under, column);
    const clusters = column.condition.clustered ? (await load(column.condition.items)).clusters : null;
    const before = data.seeds.get(under.position).map((seed) => moved(seed, place));
    const made = comparePair(before, data.seeds.get(column.position), { up: column.up, clusters, bounds: column.bounds });
    return { column, under, made, from: row.cells[under.position], to: row.cells[column.position] };
  }));
}

// What a line is called: its task, and both conditions if they differ.
function lineName({ column, under }) {
  return column === under ? nameOf(column) : `${column.task}, ${column.condition.label} against ${under.condition.label}`;
}

function told(one) {
  return one.made !== null && one.made.p < 0.05;
}

function better(one) {
  return one.made.difference > 0 === one.column.up;
}

function sentence(found, b) {
  const known = found.filter((one) => one.made);
  const list = (some) => some.map((one) => `${lineName(one)} (${signed(one.made.difference)})`).join(", ");
  const wins = known.filter((one) => told(one) && better(one));
  const losses = known.filter((one) => told(one) && !better(one));
  const rest = known.filter((one) => !told(one));
  const parts = [];
  if (wins.length) parts.push(`better on ${list(wins)}`);
  if (losses.length) parts.push(`worse on ${list(losses)}`);
  const open = rest.map((one) => `${lineName(one)} (${signed(one.made.difference)}${one.made.detectable ? `, would have to be ${number(one.made.detectable)} to show` : ""})`);
  const start = parts.length ? [h("b", {}, b.name), ` is ${parts.join("; ")}`] : [];
  const shown = open.slice(0, 6).join(", ") + (open.length > 6 ? ` and ${open.length - 6} more` : "");
  const apart = open.length ? `${parts.length ? "; not" : "Not"} told apart on ${shown}` : "";
  return [...start, apart, "."];
}

// What the leaderboard orders by, of both; no difference, as other tasks may be in it than in the lines below.
function means(page, a, b) {
  if (!page.aggregate || !a.mean || !b.mean) return null;
  const of = ({ mean }) => {
    const rank = mean.rankLow ? `, rank ${ranks(mean.rankLow, mean.rankHigh)}` : "";
    return `${number(mean.value)}${mean.known ? ` [${intervalText(mean.low, mean.high)}]` : ""}${rank}`;
  };
  return h("small.means", {}, `Mean of ${page.aggregate.label}: A ${of(a)}; B ${of(b)}.`);
}

function differences(found, current, every, pick, change) {
  const bounded = found.filter((one) => one.made && one.column.bounds && one.column.bounds[1] - one.column.bounds[0] <= 1);
  const reach = Math.max(0.02, ...bounded.flatMap((one) => [Math.abs(one.made.low), Math.abs(one.made.high), Math.min(1, one.made.detectable || 0)]));
  const ends = found.every((one) => one.column.up) ? ["\u2190 A better", "B better \u2192"] : ["\u2190 B lower", "B higher \u2192"];
  const rows = found.map((one) => line(one, one === current, bounded.includes(one) ? reach : null, pick));
  return [
    h("h2", {}, "Difference, B minus A, with its 95% interval"),
    h("div.forest", { role: "group", "aria-label": "Differences by task; choose one to see its items" }, rows,
      h("div.axis", { "aria-hidden": "true" }, h("span"), h("span.track", {}, ends.map((words) => h("span", {}, words))), h("span"))),
    h("p.soft", {}, "On the same items: ", methods(found), ". Bold: told apart at 5%, each line by itself. The shaded band is what this many items can\u2019t show with 80% power. ",
      h("button.plainly", { type: "button", onclick: () => change({ metrics: every ? "" : "all" }) }, every ? "primary metrics alone" : "every metric")),
  ];
}

const METHODS = { "mcnemar-midp": "McNemar\u2019s mid-p test", "paired-t": "a paired t", sign: "the sign test", "sign-flip": "a test of signs over clusters", "seeds-items": "a t over seeds and items" };

function methods(found) {
  return Array.from(new Set(found.filter((one) => one.made).map((one) => METHODS[one.made.method]))).join(", ");
}

function line(one, current, reach, pick) {
  const { column, made, from, to } = one;
  const n = made ? `n = ${made.n.toLocaleString("en")}` : "no item in common";
  const name = h("span.what", {}, h("span", {}, lineName(one)), h("small", {}, `${column.metric}, ${n}: ${number(from.value)} \u2192 ${number(to.value)}`));
  if (!made) return h("button.line", { type: "button", disabled: true }, name, h("span.track"), h("span.said", {}, NONE));
  const own = reach || Math.max(Math.abs(made.low), Math.abs(made.high), made.detectable || 0) || 1;
  const at = (value) => (50 + (Math.max(-own, Math.min(own, value)) / own) * 48).toFixed(2);
  const places = { "--low": at(made.low), "--high": at(made.high), "--at": at(made.difference) };
  if (made.detectable !== null) Object.assign(places, { "--from": at(-made.detectable), "--to": at(made.detectable) });
  const apart = told(one);
  const tone = !apart ? "" : better(one) ? ".b" : ".a";
  return h(`button.line${apart ? ".apart" : ""}${tone}`, { type: "button", "aria-pressed": String(current), onclick: () => pick(one) }, name,
    h("span.track", places, made.detectable !== null && h("i.band"), h("i.zero"), h("i.span"), h("i.dot")),
    h("span.said", {}, h("span", {}, `${signed(made.difference)} [${signed(made.low)}, ${signed(made.high)}]`),
      h("small", {}, `${apart ? `${better(one) ? "B" : "A"} is better` : "not told apart"}, ${pValue(made.p)}`)));
}

function costs(page, a, b) {
  const rows = page.costs.flatMap((cost) => {
    const [first, second] = [costOf(a, page, cost.key), costOf(b, page, cost.key)];
    if (first === null && second === null) return [];
    const form = (value) => (value === null ? NONE : FORMS[cost.form](value));
    return [[cost.label.toLowerCase(), form(first), form(second), first && second !== null ? `\u00d7${(second / first).toFixed(2)}` : NONE]];
  });
  return [h("h2", {}, "What B costs against A"),
    plainTable("Costs of A and B", ["Cost", "A", "B", "B / A"], rows, ".costs.ab"),
    h("p.soft", {}, "Seconds compare only on the same machine.")];
}

