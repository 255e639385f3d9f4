// A list of items, those to look at first on top, and beside it the one that is open: the raw texts of one model or two.

import { load } from "./data.js";
import { fill, h, inSlices } from "./dom.js";
import { plural } from "./forms.js";
import { amend, unknown } from "./route.js";
import { sampleOf } from "./sample.js";

const HIGH = 34;

// sides: [{row, run(s), tone}], one or two. verdicts: as verdicts.js makes them; order: positions. signal: of its life.
export function itemBrowser(items, sides, verdicts, order, params, column, signal) {
  const state = { only: params.get("only") || "", q: params.get("find") || "", at: -1 };
  const counts = verdicts.kinds.map((_, kind) => verdicts.of.reduce((sum, each) => sum + (each === kind), 0));
  let shown = order;
  let full = null;
  let chosen = items.ids.indexOf(params.get("item"));
  const there = items.texts && new Set(items.texts);
  const share = h("div.share", { role: "group", "aria-label": "Items by verdict" });
  const told = h("p.told", { "aria-live": "polite" });
  const space = h("div.space");
  const list = h("div.list", {
    role: "listbox", tabindex: "0", "aria-label": "Items", onscroll: () => requestAnimationFrame(rows), onkeydown: keys,
  }, space);
  const detail = h("div.detail", { "aria-live": "polite" });
  const search = h("input", { type: "search", placeholder: "search prompts, targets, outputs", "aria-label": "search items", value: state.q, oninput: typed });

  function bars() {
    fill(share, verdicts.kinds.map(([key, words, tone], kind) => counts[kind] > 0 && h(`button.part.${tone}`, {
      type: "button", "--share": counts[kind], "aria-pressed": String(state.only === key),
      onclick: () => {
        state.only = state.only === key ? "" : key;
        amend({ only: state.only });
        bars();
        narrowed();
      },
    }, h("b", {}, counts[kind].toLocaleString("en")), h("span", {}, words))));
  }

  async function typed() {
    state.q = search.value;
    amend({ find: state.q });
    const searching = Boolean(state.q && !full);
    narrowed(searching);
    if (searching) {
      told.textContent = "reading all texts \u2026";
      full = await allTexts(items, sides).catch(() => []);
      narrowed();
    }
  }

  function narrow() {
    const words = state.q.toLowerCase();
    const kind = verdicts.kinds.findIndex(([key]) => key === state.only);
    shown = order.filter((at) => {
      if (kind >= 0 && verdicts.of[at] !== kind) return false;
      if (!words) return true;
      const text = full && full[at];
      return (text || `${items.ids[at]} ${items.glimpses[at]}`.toLowerCase()).includes(words);
    });
    told.textContent = `${shown.length.toLocaleString("en")} of ${plural(order.length, "item")}`;
  }

  // The item that the reader chose stays open while it is among those shown.
  function narrowed(searching = false) {
    narrow();
    const at = shown.indexOf(chosen);
    if (at < 0 && !searching) {
      chosen = -1;
      amend({ item: "" });
    }
    list.scrollTop = 0;
    open(Math.max(0, at), false);
  }

  function rows() {
    space.style.setProperty("height", `${shown.length * HIGH}px`);
    const from = Math.max(0, Math.floor(list.scrollTop / HIGH) - 4);
    const to = Math.min(shown.length, from + Math.ceil((list.clientHeight || 400) / HIGH) + 8);
    fill(space, shown.slice(from, to).map((item, i) => {
      const at = from + i;
      const [, words, tone] = verdicts.kinds[verdicts.of[item]];
      return h(there && !there.has(item) ? "div.one.silent" : "div.one", {
        role: "option", id: `item-${at}`, "aria-selected": String(at === state.at), "aria-setsize": shown.length, "aria-posinset": at + 1,
        "--top": `${at * HIGH}px`, onclick: () => open(at),
      }, h(`span.verdict.${tone}`, {}, words), h("b", {}, items.ids[item]), " ", h("span", {}, items.glimpses[item]));
    }));
    list.setAttribute("aria-activedescendant", state.at >= 0 && state.at >= from && state.at < to ? `item-${state.at}` : "");
  }

  async function open(at, told_ = true) {
    state.at = Math.max(0, Math.min(shown.length - 1, at));
    const item = shown[state.at];
    if (state.at * HIGH < list.scrollTop) list.scrollTop = state.at * HIGH;
    const low = (state.at + 1) * HIGH - list.clientHeight;
    if (list.clientHeight && low > list.scrollTop) list.scrollTop = low;
    rows();
    if (item === undefined) return fill(detail, h("p.nothing", {}, "No item has these words."));
    if (told_) {
      chosen = item;
      amend({ item: items.ids[item] });
    }
    const made = await sampleOf(items, sides, item, column).catch((error) => h("p.nothing", {}, error.message));
    if (shown[state.at] === item) fill(detail, made);
    return undefined;
  }

  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor(list.clientHeight / HIGH) - 1);
    const moves = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length };
    if (!(event.key in moves)) return;
    event.preventDefault();
    open(state.at + moves[event.key]);
  }

  function anywhere(event) {
    const typing = event.target instanceof Element && event.target.closest("input, select, textarea, .list");
    if (!typing && (event.key === "j" || event.key === "k")) keys(event);
  }

  document.addEventListener("keydown", anywhere, { signal });
  bars();
  narrow();
  const [wanted, at] = [params.get("item"), shown.indexOf(chosen)];
  const alert = unknown(
    [state.only && chosen >= 0 ? "item of this verdict" : "item", wanted, at >= 0 || (state.q && chosen >= 0)],
    ["verdict", state.only, verdicts.kinds.some(([key]) => key === state.only)]);
  open(Math.max(0, at), false);
  if (state.q) typed();
  const element = h("div.browser", {}, alert, share,
    h("div.split", {}, h("div", {}, search, list), h("div", {}, h("div.bar", {}, told, h("span.soft", {}, "j, k: next, previous item")), detail)));
  return { element, shown: () => open(state.at, false) };
}

// Item -> all its texts in small letters, loaded a block at a time.
async function allTexts(items, sides) {
  const found = items.ids.map((id) => [id]);
  for (const side of sides) {
    const own = side.items || items;
    const of = new Map(side.place ? Array.from(side.place, (place, position) => [place, position]) : items.ids.map((_, at) => [at, at]));
    for (let block = 0; block < own.asked.length; block += 1) {
      const [asked, ...wrote] = await Promise.all([load(own.asked[block]), ...side.runs.map((run) => load(run.wrote[block]))]);
      let at = 0;
      await inSlices(() => {
        if (at >= asked.length) return false;
        const index = block * own.per + at;
        const position = of.get(own.texts ? own.texts[index] : index);
        if (position !== undefined) found[position].push(asked[at][0], asked[at][1], ...wrote.flatMap((run) => (run[at] || []).map((sample) => sample[0])));
        at += 1;
        return true;
      });
    }
  }
  return found.map((texts) => texts.join("\n").toLowerCase());
}
