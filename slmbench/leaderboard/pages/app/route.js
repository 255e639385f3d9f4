// Where a reader is, in the address: `#compare?a=...&b=...`. What is shown can be sent to somebody else as a link.

export const VIEWS = ["table", "plot", "compare", "items", "runs"];

export function readRoute(hash) {
  const text = hash.replace(/^#/, "");
  // Of a run by itself, as other files and older pages link to it.
  if (text.startsWith("run-")) return { view: "runs", params: new URLSearchParams({ run: decoded(text.slice(4)) }) };
  const [view, query = ""] = splitOnce(text, "?");
  return { view: VIEWS.includes(view) ? view : "table", params: new URLSearchParams(query), anchor: view };
}

function decoded(text) {
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
  for (const [key, value] of Object.entries(changes)) {
    if (value) params.set(key, value);
    else params.delete(key);
  }
  const made = address(view, Object.fromEntries(params));
  if (made === location.hash) return;
  history.replaceState(null, "", made);
  document.dispatchEvent(new Event("amended"));
}
