// Which columns the table has: the primary metrics unless a reader chooses others; the choice is part of the address.

import { nameOf } from "./data.js";
import { button, fill, h } from "./dom.js";
import { amend, decoded, readRoute } from "./route.js";

// What all models have alike tells none of them apart.
function usualCosts(page) {
  return page.costs.filter((cost) => cost.key === "parameters" && cost.differs).map((cost) => cost.key);
}

export function shownColumns(page, params) {
  const wanted = params.get("cols") || "";
  if (wanted === "all") return page.columns;
  if (!wanted) return page.columns.filter((column) => column.primary);
  const keys = new Set(wanted.split(" "));
  return page.columns.filter((column) => keys.has(encodeURIComponent(column.key)));
}

export function shownCosts(page, params) {
  const wanted = params.get("costs");
  // A narrow screen has room for scores.
  const keys = wanted !== null ? wanted.split(" ") : innerWidth < 700 ? [] : usualCosts(page);
  return page.costs.filter((cost) => keys.includes(cost.key));
}

// What the address names, as `unknown` takes it.
export function askedColumns(page, params) {
  const named = (key) => (params.get(key) || "").split(" ").filter((one) => one && one !== "none");
  return [
    ...named("cols").filter((key) => key !== "all").map((key) => ["column", decoded(key), page.columns.some((column) => encodeURIComponent(column.key) === key)]),
    ...named("costs").map((key) => ["cost", key, page.costs.some((cost) => cost.key === key)]),
  ];
}

export function columnPicker(page, params, signal, onchange) {
  const panel = h("div.panel");
  const told = h("span.told");
  const columns = new Set(shownColumns(page, params));
  const costs = new Set(shownCosts(page, params));

  function changed() {
    const primary = page.columns.filter((column) => column.primary);
    const same = primary.length === columns.size && primary.every((column) => columns.has(column));
    const keys = page.columns.filter((column) => columns.has(column)).map((column) => encodeURIComponent(column.key));
    const cols = same ? "" : columns.size === page.columns.length ? "all" : keys.join(" ") || "none";
    const chosen = page.costs.filter((cost) => costs.has(cost)).map((cost) => cost.key).join(" ");
    amend({ cols, costs: chosen === usualCosts(page).join(" ") ? "" : chosen || "none" });
    // The caller reads them from the address's own words.
    const now = readRoute(location.hash).params;
    for (const key of ["cols", "costs"]) {
      if (now.get(key) === null) params.delete(key);
      else params.set(key, now.get(key));
    }
    count();
    onchange();
  }

  function count() {
    told.textContent = `${columns.size} of ${page.columns.length}`;
  }

  const check = (set, one, words) =>
    h("label.tick", {}, h("input", {
      type: "checkbox", checked: set.has(one),
      onchange: (event) => {
        if (event.target.checked) set.add(one);
        else set.delete(one);
        changed();
      },
    }), words);

  function build(words = "") {
    const groups = new Map();
    for (const column of page.columns) {
      const name = nameOf(column);
      if (!`${name} ${column.metric}`.toLowerCase().includes(words.toLowerCase())) continue;
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(column);
    }
    return Array.from(groups, ([name, own]) => h("fieldset", {}, h("legend", {}, name),
      own.map((column) => check(columns, column, column.primary ? `${column.metric}, primary` : column.metric))));
  }

  const list = h("div.ticks");
  const choose = (some) => () => {
    columns.clear();
    some.forEach((column) => columns.add(column));
    fill(list, build());
    changed();
  };
  const search = h("input", { type: "search", placeholder: "search columns", "aria-label": "search columns", oninput: () => fill(list, build(search.value)) });
  const details = h("details.pop", {
    ontoggle: () => {
      if (!details.open) return fill(panel);
      fill(list, build());
      return fill(panel,
        h("div.quick", {},
          button("primary metrics", choose(page.columns.filter((column) => column.primary))),
          button("every metric", choose(page.columns)), button("none", choose([])), search),
        list,
        h("fieldset", {}, h("legend", {}, "Cost"), page.costs.map((cost) => check(costs, cost, cost.label))));
    },
    onkeydown: (event) => {
      if (event.key !== "Escape" || !details.open) return;
      details.open = false;
      details.querySelector("summary").focus();
    },
  }, h("summary", {}, "Columns ", told), panel);
  document.addEventListener("click", (event) => {
    if (details.open && !details.contains(event.target) && event.target.isConnected) details.open = false;
  }, { signal });
  count();
  return details;
}
