// What a reader has to be told, folded by kind, and every run: what it was, where its files are, how it was trained.

import { cellWords, load, nameOf, rowData, rowNamed } from "./data.js";
import { fill, h, plainTable } from "./dom.js";
import { NONE, intervalText, number, plural, ranks } from "./forms.js";
import { address, unknown } from "./route.js";
import { costText, rowNotes } from "./cells.js";
import { trainingOf } from "./training.js";

export function runsView(page, params, { notes, signal }) {
  const open = new Map();
  const list = page.rows.map((row) => {
    const body = h("div.body");
    const details = h("details.run", { ontoggle: () => details.open && !body.childNodes.length && fillRow(page, row, body, params.get("run")) },
      h("summary", {}, h("b", {}, row.model), " ", rowNotes(row), " ", h("small", {}, plural(row.runs, "run"))), body);
    open.set(row, details);
    return details;
  });
  const told = h("output.told", { "aria-live": "polite" }, plural(page.rows.length, "model"));
  const search = h("input", { type: "search", placeholder: "name or run id", "aria-label": "search models and run ids", oninput: narrow });

  async function narrow() {
    const ids = search.value ? await load(page.runs).catch(() => []) : [];
    const words = search.value.toLowerCase();
    const having = new Set(ids.filter(([id]) => id.toLowerCase().includes(words)).map(([, at]) => at));
    const found = page.rows.filter((row, at) => row.search.toLowerCase().includes(words) || having.has(at));
    const shown = new Set(found);
    page.rows.forEach((row) => {
      open.get(row).hidden = !shown.has(row);
    });
    told.textContent = shown.size === page.rows.length ? plural(shown.size, "model") : `${shown.size} of ${plural(page.rows.length, "model")}`;
  }
  const element = h("section.view.runs", { "aria-label": "Runs and notices" },
    notices(page), h("h2", {}, "Runs"), h("p.soft", {}, page.about), h("div.bar", {}, search, told), list,
    notes);

  async function shown() {
    const [name, run] = [params.get("row"), params.get("run")];
    let row = rowNamed(page, name);
    try {
      const ofRun = run && (await rowOfRun(page, run));
      if (signal.aborted) return;
      element.prepend(unknown(["model", name, row], ["run", run, ofRun]) || "");
      row = row || ofRun;
    } catch (error) {
      element.prepend(h("p.nothing", { role: "alert" }, error.message));
    }
    if (!row) return;
    const details = open.get(row);
    details.open = true;
    details.scrollIntoView({ block: "start" });
    details.querySelector("summary").focus({ preventScroll: true });
  }
  return { element, shown };
}

async function rowOfRun(page, id) {
  const ids = await load(page.runs);
  const found = ids.find(([one]) => one === id);
  return found ? page.rows[found[1]] : null;
}

function notices(page) {
  const total = page.notices.reduce((sum, [, texts]) => sum + texts.length, 0);
  if (!total) return null;
  return h("section.notices", {},
    h("h2", {}, "Before you read on"),
    page.notices.map(([kind, texts]) => (texts.length === 1
      ? h("p", {}, texts[0])
      : h("details", { open: total <= 6 }, h("summary", {}, counted(kind, texts.length)),
        h("ul", {}, texts.slice(0, 500).map((text) => h("li", {}, text)),
          texts.length > 500 && h("li", {}, `and ${texts.length - 500} more, in leaderboard.json`))))));
}

// A kind's sentence, with the number of its cases if it doesn't say that itself.
function counted(kind, amount) {
  const said = amount.toLocaleString("en");
  return kind.split(/[^\d,]+/).includes(said) ? kind : `${kind} (${said})`;
}

async function fillRow(page, row, body, wanted) {
  fill(body, h("p.soft", {}, "loading \u2026"));
  try {
    const data = await rowData(row);
    fill(body,
      row.method && h("p.soft", {}, row.method),
      scores(page, row), costs(page, row),
      data.latency.length > 0 && plainTable(`What a lone user of ${row.name} waits for an item: median, then 90th percentile`, ["Task", "Latency"], data.latency, ".costs"),
      data.runs.map((run) => runOf(page, run, wanted)),
      data.training && trainingOf(data.training, row.name));
    body.querySelector(".wanted")?.scrollIntoView({ block: "center" });
  } catch (error) {
    fill(body, h("p.nothing", { role: "alert" }, error.message));
  }
}

function scores(page, row) {
  const rows = page.columns.flatMap((column) => {
    const cell = row.cells[column.position];
    if (!cell) return [];
    const link = h("a", { href: address("items", { row: row.name, column: column.key }), "aria-label": `items of ${nameOf(column)}, ${column.metric}: ${cellWords(cell, column, { number, intervalText })}` }, number(cell.value));
    const mark = cell.claim === "best" ? "\u25c6 best here" : cell.claim ? "\u25c7 not told apart from the best" : cell.badges.join(", ");
    return [[nameOf(column), column.metric, link, cell.known ? intervalText(cell.low, cell.high) : NONE,
      cell.rankLow === null ? NONE : `${ranks(cell.rankLow, cell.rankHigh)} of ${column.ranked}`, String(cell.n), mark]];
  });
  return plainTable(`Scores of ${row.name}; each leads to its items`, ["Task", "Metric", "Score", "95% interval", "Rank", "n", "Claim"], rows, ".costs");
}

function costs(page, row) {
  const known = page.costs.flatMap((cost, at) => (row.cost[at] === null ? [] : [[cost.label, costText(row, page, cost)]]));
  return h("dl.facts", {}, known.map(([term, words]) => h("div", {}, h("dt", {}, term.toLowerCase()), h("dd", {}, words))));
}

function runOf(page, run, wanted) {
  const condition = page.conditions[run.cond];
  const title = condition.label ? `${condition.task} (${condition.label})` : condition.task;
  return h(`details.record${run.id === wanted ? ".wanted" : ""}`, { id: `run-${run.id}`, open: run.id === wanted },
    h("summary", {}, h("b", {}, title), " ", h("small", {}, run.id)),
    h("dl.facts", {}, run.facts.map(([term, words]) => h("div", {}, h("dt", {}, term), h("dd", {}, words)))),
    h("p.soft", {}, "Files: ", run.record ? h("a", { href: run.record }, "run.json") : "run.json", ", ",
      run.samples ? h("a", { href: run.samples }, run.place) : run.place, ` (${plural(run.n, "sample")})`));
}
