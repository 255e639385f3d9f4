// Where a reader is, in the address: `#compare?a=...&b=...`. What is shown can be sent to somebody else as a link.

import { h } from "./dom.js";

export const VIEWS = ["table", "plot", "compare", "items", "prompts", "runs"];

// views: those that the page has.
export function readRoute(hash, views = VIEWS) {
  const text = hash.replace(/^#/, "");
  // Of a run by itself, as other files and older pages link to it.
  if (text.startsWith("run-")) return { view: "runs", params: new URLSearchParams({ run: decoded(text.slice(4)) }) };
  const [view, query = ""] = splitOnce(text, "?");
  const known = views.includes(view);
  return { view: known ? view : "table", params: new URLSearchParams(query), wrong: known ? "" : view };
}

export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function splitOnce(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

// The address of a view. params: name -> text; what is empty or null is left out.
export function address(view, params = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) if (value) query.set(key, value);
  const text = query.toString();
  return text ? `#${view}?${text}` : `#${view}`;
}

// Changes some parameters of the address under the reader, without a step in the browser's history.
export function amend(changes) {
  const { view, params } = readRoute(location.hash);
  const before = String(params);
  for (const [key, value] of Object.entries(changes)) {
    if (value) params.set(key, value);
    else params.delete(key);
  }
  if (String(params) === before) return;
  history.replaceState(null, "", address(view, Object.fromEntries(params)));
  document.dispatchEvent(new Event("amended"));
}

// An alert of what an address names and the page hasn't, so that nothing else is shown as if it were that; else null.
// asked: [kind, name, what was found by it] each; an empty name asks for nothing.
export function unknown(...asked) {
  const missing = asked.filter(([, name, found]) => name && !found).map(([kind, name]) => `no ${kind} \u201c${name}\u201d`);
  if (!missing.length) return null;
  const told = missing.length > 1 ? `${missing.slice(0, -1).join(", ")} and ${missing.at(-1)}` : missing[0];
  return h("p.unknown", { role: "alert" }, `The page has ${told}. The address may be of another leaderboard, or of this one before it was made anew.`);
}
