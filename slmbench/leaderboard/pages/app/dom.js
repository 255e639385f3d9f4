// Elements out of text and numbers alone: nothing here takes markup, so nothing that a run holds can become any.

const SVG = "http://www.w3.org/2000/svg";

// h("td.score.best", {title: "..."}, children...): classes behind dots; `on*` are listeners, `--*` are CSS properties.
export function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  return filled(document.createElement(tag), classes, attributes, children);
}

export function s(name, attributes, ...children) {
  const [tag, ...classes] = name.split(".");
  return filled(document.createElementNS(SVG, tag), classes, attributes, children);
}

function filled(element, classes, attributes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) add(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

// children of an element: those it has already stay where they are, with their focus. Both are in the same order.
export function replaced(element, children) {
  const kept = new Set(children);
  for (const child of Array.from(element.childNodes)) if (!kept.has(child)) child.remove();
  let next = element.firstChild;
  for (const child of children) {
    if (child === next) next = next.nextSibling;
    else element.insertBefore(child, next);
  }
}

// A labelled list of choices. options: [value, words] pairs, or [group, pairs] if `grouped`.
export function choose(label, options, value, onchange, { hidden = false, kind = "" } = {}) {
  const select = h("select", { "aria-label": hidden ? label : null, onchange: () => onchange(select.value) });
  if (kind) select.className = kind;
  for (const [key, words] of options) select.append(h("option", { value: key, selected: key === value }, words));
  select.value = value;
  return hidden ? select : h("label.choice", {}, h("span", {}, label), select);
}

export function button(words, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, words);
}

// A table whose cells are texts or elements. heads: texts; rows: arrays whose first cell heads the row.
export function plainTable(caption, heads, rows, kind = "") {
  const line = (cells) => h("tr", {}, h("th", { scope: "row" }, cells[0]), cells.slice(1).map((cell) => h("td", {}, cell)));
  const region = { role: "region", "aria-label": caption, tabindex: "0" };
  return h("div.scroll", region, h(`table.plain${kind}`, {},
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map(line))));
}

// Long work in slices, so that the page stays quick: `step` does some of it and says whether there is more.
export function inSlices(step) {
  return new Promise((resolve) => {
    const slice = () => {
      const until = performance.now() + 12;
      while (performance.now() < until) if (!step()) return resolve();
      setTimeout(slice);
    };
    slice();
  });
}
