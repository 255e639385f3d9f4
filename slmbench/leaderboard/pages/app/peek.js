// A card beside the score or mean under the pointer or the focus: its interval to scale, and all that is known of it.

import { nameOf } from "./data.js";
import { button, fill, h, s } from "./dom.js";
import { intervalText, number, ranks } from "./forms.js";

let card = null;
let timer = 0;
let leaving = 0;

// column: of the table, as cells.js makes it.
export function peekAt(anchor, page, row, column) {
  clearTimeout(timer);
  clearTimeout(leaving);
  timer = setTimeout(() => show(anchor, page, row, column), card && !card.hidden ? 20 : 160);
}

export function unpeek() {
  clearTimeout(timer);
  clearTimeout(leaving);
  if (card) card.hidden = true;
}

// The pointer has a moment to go from the score to its card, where it may stay.
export function unpeekSoon() {
  clearTimeout(timer);
  leaving = setTimeout(unpeek, 250);
}

// Ahead of what else Escape does, which a card takes first.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !card || card.hidden) return;
  event.preventDefault();
  unpeek();
}, true);

function show(anchor, page, row, column) {
  const cell = column.at(row);
  if (!cell || !anchor.isConnected) return;
  if (!card) {
    // Every word of it is in the link's own name, too.
    card = h("div.peek", { "aria-hidden": "true", onmouseenter: () => clearTimeout(leaving), onmouseleave: unpeekSoon });
    document.body.append(card);
  }
  const { of } = column;
  const chance = of ? of.chance : null;
  const told = [
    ["95% interval", cell.known ? intervalText(cell.low, cell.high) : "none"],
    ["rank", cell.rankLow === null ? "not ranked" : `${ranks(cell.rankLow, cell.rankHigh)} of ${of ? of.ranked : page.aggregate.ranked}`],
    ["items", cell.n],
    ["smallest difference it can show", !of || of.detect === null ? null : `about ${number(of.detect)}`],
    ["note", cell.badges.join(", ")],
  ];
  fill(card,
    button("\u00d7", unpeek, { class: "close", tabindex: "-1", onmousedown: (event) => event.preventDefault() }),
    h("p.title", {}, h("b", {}, of ? nameOf(of) : column.label), " ", h("span", {}, of ? of.metric : page.aggregate.label)),
    h("p.big", { class: cell.claim === "best" ? "big best" : cell.claim ? "big tied" : "big" }, number(cell.value),
      cell.claim && h("small", {}, cell.claim === "best" ? "\u25c6 best here" : "\u25c7 not told apart from the best")),
    scale(page.rows.map(column.at).filter(Boolean), cell, chance),
    h("dl", {}, told.filter(([, value]) => value).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])));
  card.hidden = false;
  const box = anchor.getBoundingClientRect();
  const { offsetWidth: wide, offsetHeight: high } = card;
  const left = Math.max(8, Math.min(innerWidth - wide - 8, box.right + 10 + wide > innerWidth ? box.left - wide - 10 : box.right + 10));
  const top = Math.max(8, Math.min(innerHeight - high - 8, box.top - 20));
  card.style.setProperty("left", `${left + scrollX}px`);
  card.style.setProperty("top", `${top + scrollY}px`);
}

// Every model's score as a tick, this one's with its interval.
function scale(cells, cell, chance) {
  const ends = cells.flatMap((each) => (each.known ? [each.low, each.high] : [each.value]));
  if (chance !== null) ends.push(chance);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const x = (value) => 6 + (high > low ? ((value - low) / (high - low)) * 228 : 114);
  return s("svg", { viewBox: "0 0 240 34", width: "240", height: "34" },
    s("line.axis", { x1: 6, x2: 234, y1: 17, y2: 17 }),
    cells.map((each) => s("line.other", { x1: x(each.value), x2: x(each.value), y1: 12, y2: 22 })),
    chance !== null && s("line.chance", { x1: x(chance), x2: x(chance), y1: 6, y2: 28 }),
    cell.known && s("line.span", { x1: x(cell.low), x2: x(cell.high), y1: 17, y2: 17 }),
    s("circle", { cx: x(cell.value), cy: 17, r: 5 }));
}
