// What two texts share, word by word: what only one of them has is marked in it.

import { h } from "./dom.js";

const MOST_EDITS = 1500;

// Two lists of nodes, for a and for b. Texts that differ too much are left unmarked.
export function wordDiff(a, b) {
  const first = words(a);
  const second = words(b);
  const kept = shared(first, second);
  if (!kept) return [[a], [b]];
  return [marked(first, kept[0]), marked(second, kept[1])];
}

function words(text) {
  return text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) || [];
}

// Which words of either are common to both (Myers 1986, "An O(ND) difference algorithm"); null past MOST_EDITS edits.
export function shared(a, b) {
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let endA = a.length;
  let endB = b.length;
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
  const keptA = a.map((_, at) => at < start || at >= endA);
  const keptB = b.map((_, at) => at < start || at >= endB);
  const n = endA - start;
  const m = endB - start;
  const most = Math.min(n + m, MOST_EDITS);
  const furthest = new Map([[1, 0]]);
  const trace = [];
  for (let edits = 0; edits <= most; edits += 1) {
    const moves = new Map();
    const ends = new Map(furthest);
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && furthest.get(k - 1) < furthest.get(k + 1));
      let x = down ? furthest.get(k + 1) : furthest.get(k - 1) + 1;
      while (x < n && x - k < m && a[start + x] === b[start + x - k]) x += 1;
      moves.set(k, down);
      furthest.set(k, x);
      if (x >= n && x - k >= m) {
        trace.push({ moves, ends });
        walkBack(trace, n, m, (i, j) => {
          keptA[start + i] = true;
          keptB[start + j] = true;
        });
        return [keptA, keptB];
      }
    }
    trace.push({ moves, ends });
  }
  return null;
}

// ends: how far each diagonal had come before an edit; moves: whether the edit went down (a word of b) or right.
function walkBack(trace, n, m, keep) {
  let x = n;
  let y = m;
  for (let edits = trace.length - 1; edits >= 0; edits -= 1) {
    const { moves, ends } = trace[edits];
    const k = x - y;
    const down = moves.get(k);
    const from = edits === 0 ? 0 : down ? ends.get(k + 1) : ends.get(k - 1) + 1;
    while (x > from) {
      x -= 1;
      y -= 1;
      keep(x, y);
    }
    if (edits > 0 && down) y -= 1;
    else if (edits > 0) x -= 1;
  }
}

// Neighbours that are unlike become one mark; blanks between two marks go with them.
function marked(parts, kept) {
  const nodes = [];
  let run = "";
  let plain = "";
  const close = () => {
    if (run) nodes.push(h("mark", {}, run));
    run = "";
  };
  parts.forEach((part, at) => {
    if (!kept[at]) {
      if (plain && !(run && /^\s+$/.test(plain))) {
        close();
        nodes.push(plain);
      } else run += plain;
      plain = "";
      run += part;
      return;
    }
    plain += part;
    if (!/^\s+$/.test(plain)) close();
  });
  close();
  if (plain) nodes.push(plain);
  return nodes;
}
