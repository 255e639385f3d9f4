// The page's frame: which view is shown, its tabs, what goes to paper. Without this the plain table is there to read.

import { compareView } from "./compare.js";
import { readPage } from "./data.js";
import { fill, h } from "./dom.js";
import { plural } from "./forms.js";
import { itemsView } from "./items.js";
import { plotView } from "./plot.js";
import { paper } from "./print.js";
import { address, readRoute, unknown } from "./route.js";
import { runsView } from "./runs.js";
import { tableView } from "./table.js";
import { unpeek } from "./peek.js";

const MADE = { table: tableView, plot: plotView, compare: compareView, items: itemsView, prompts: promptsView, runs: runsView };
const NAMES = { table: "Table", plot: "Plot", compare: "Compare", items: "Items", prompts: "Prompts", runs: "Runs and notices" };

// What was written to free prompts is in the page as it is read without a script, where there is any.
function promptsView(page, params, { asked }) {
  return { element: asked };
}

function start() {
  const page = readPage();
  const app = document.getElementById("app");
  if (!page.rows.length) return;
  const asked = document.getElementById("prompts");
  asked?.remove();
  const views = Object.keys(MADE).filter((view) => view !== "prompts" || asked);
  const notes = document.getElementById("notes");
  const how = document.getElementById("how");
  const title = document.title;
  // Of all rows alike, so that it stays below the table whatever is filtered.
  const beside = document.getElementById("beside");
  notes?.remove();
  const tabs = h("nav.tabs", { "aria-label": "Views" });
  const stage = h("div.stage");
  const printed = h("div.printed", { "aria-hidden": "true" });
  let current = null;
  // A view's life: what it listens to and waits for ends when another one comes.
  let life = new AbortController();
  // Filters and chosen models stay while a reader goes from view to view.
  const kept = new Map();

  function keep() {
    const { view, params } = readRoute(location.hash);
    for (const key of ["q", "family", "size"]) if (view === "table" || view === "plot") kept.set(key, params.get(key));
    for (const key of ["a", "b"]) if (view === "table" || view === "compare") kept.set(key, params.get(key));
    for (const link of tabs.children) link.setAttribute("href", linkTo(link.dataset.view));
  }

  function show(moved) {
    const { view, params, wrong } = readRoute(location.hash, views);
    unpeek();
    life.abort();
    life = new AbortController();
    for (const link of tabs.children) {
      if (link.dataset.view === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${NAMES[view]}: ${title}`;
    keep();
    // What had the focus has it again where the same view comes up anew, as after a choice of another model.
    const at = Array.from(stage.querySelectorAll("select")).indexOf(document.activeElement);
    current = MADE[view](page, params, { notes, asked, signal: life.signal });
    fill(stage, unknown(["view", wrong]), current.element);
    if (at >= 0) stage.querySelectorAll("select")[at]?.focus();
    beside.hidden = view !== "table";
    if (current.shown) current.shown();
    if (moved && at < 0) window.scrollTo(0, 0);
  }

  function linkTo(name) {
    const wanted = { table: ["q", "family", "size", "a", "b"], plot: ["q", "family", "size"], compare: ["a", "b"] }[name] || [];
    return address(name, Object.fromEntries(wanted.map((key) => [key, kept.get(key)])));
  }

  const said = page.notices.reduce((sum, [, texts]) => sum + texts.length, 0);
  fill(tabs, views.map((name) => h("a", { href: address(name), "data-view": name }, name === "runs" && said > 0 ? "Runs and " : NAMES[name],
    name === "runs" && said > 0 && h("span.count", {}, plural(said, "notice")))));
  window.addEventListener("hashchange", () => show(true));
  document.addEventListener("amended", () => {
    keep();
    // What the address named wrongly is the reader's past once they have chosen something.
    stage.querySelectorAll(".unknown").forEach((told) => told.remove());
  });
  window.addEventListener("beforeprint", () => {
    if (current && current.print) fill(printed, paper(page, current.print()));
    document.body.classList.toggle("onpaper", Boolean(current && current.print));
    // Paper has what was chosen and searched, not the means to.
    stage.querySelectorAll("select, input[type=search]").forEach((one) => one.after(h("span.chosen", {}, one.selectedOptions ? one.selectedOptions[0]?.text : one.value)));
  });
  window.addEventListener("afterprint", () => {
    fill(printed);
    document.body.classList.remove("onpaper");
    stage.querySelectorAll(".chosen").forEach((one) => one.remove());
  });
  fill(app, tabs, stage, printed, beside, how && h("details.how", {}, h("summary", {}, "How to read this"), how));
  // It says less than the views do, and is as long as a page may be.
  document.querySelector(".fallback")?.remove();
  show(false);
}

start();
