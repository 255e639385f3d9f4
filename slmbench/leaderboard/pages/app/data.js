// What the page knows at once (`#data`), and what it loads when it is asked for: files of `data/`, by script elements,
// since a page that was opened from a disk may not fetch.

import { NONE } from "./forms.js";

const waiting = new Map();
const loaded = new Map();
const CHUNK = /^[a-z]+-[0-9a-f]{16}$/;

// A data file hands its value over by this one name.
window.slmbenchData = (name, value) => {
  const entry = waiting.get(name);
  waiting.delete(name);
  if (entry) entry.resolve(value);
};

const policy = window.trustedTypes
  ? window.trustedTypes.createPolicy("slmbench", {
      createScriptURL: (name) => {
        if (!CHUNK.test(name)) throw new TypeError(`${name} is no data file of this page`);
        return `data/${name}.js`;
      },
    })
  : { createScriptURL: (name) => (CHUNK.test(name) ? `data/${name}.js` : "data/none.js") };

export class Missing extends Error {}

// The value of one data file. Rejects with Missing if it isn't there, as if index.html alone was moved.
export function load(name) {
  if (!loaded.has(name)) {
    const made = new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const failed = () => {
        waiting.delete(name);
        loaded.delete(name);
        reject(new Missing(`data/${name}.js can\u2019t be read. The whole leaderboard folder has to lie beside this page.`));
      };
      waiting.set(name, { resolve });
      script.onerror = failed;
      script.onload = () => {
        script.remove();
        if (waiting.has(name)) failed();
      };
      script.src = policy.createScriptURL(name);
      document.head.append(script);
    });
    loaded.set(name, made);
  }
  return loaded.get(name);
}

export function readPage() {
  const page = JSON.parse(document.getElementById("data").textContent);
  page.columns.forEach((column, position) => {
    column.position = position;
    column.condition = page.conditions[column.cond];
  });
  page.rows.forEach((row, position) => {
    row.position = position;
    row.cells = row.cells.map((cell, at) => readCell(cell, page.columns[at]));
    row.mean = readMean(row.mean);
    row.search = [row.name, row.family, row.method, row.quant, ...row.badges].filter(Boolean).join(" ");
  });
  page.costs = page.costs.map(([key, label, form, about, differs]) => ({ key, label, form, about, differs }));
  return page;
}

// [value, low, high, rank low, rank high, claim, n, badges]: what is missing at the end is nothing, or the column's.
function readCell(cell, column) {
  if (!cell) return null;
  const [value, low, high, rankLow, rankHigh, claim, n, badges] = cell;
  return {
    value, low, high, rankLow: rankLow || null, rankHigh: rankHigh || null,
    claim: [null, "best", "not told apart"][claim || 0], n: n || column.n, badges: badges || [],
    known: low !== null && low !== undefined,
  };
}

// Of the tasks, in the form of a cell.
function readMean(mean) {
  if (!mean) return null;
  const { value, low, high, rank_low: rankLow, rank_high: rankHigh, claim } = mean;
  return { value, low, high, rankLow, rankHigh, claim, n: null, badges: [], known: low !== null };
}

// Item scores of a row, as numbers in the order of the condition's items, NaN where there is none.
export function unpack(packed) {
  if (packed[0] === "b") return Float64Array.from(packed.slice(1), (digit) => (digit === "." ? NaN : Number(digit)));
  return Float64Array.from(packed.slice(1).split(";"), (text) => (text === "" ? NaN : Number(text)));
}

// The data file of a row. seeds: column position -> item scores of each of its runs; byColumn: their mean.
export async function rowData(row) {
  const data = await load(row.chunk);
  if (!data.byColumn) {
    data.seeds = new Map(data.scores.map(([column, packed]) => [column, packed.map(unpack)]));
    data.byColumn = new Map(Array.from(data.seeds, ([column, seeds]) => [column, meanOf(seeds)]));
  }
  return data;
}

function meanOf(seeds) {
  if (seeds.length === 1) return seeds[0];
  return seeds[0].map((_, at) => {
    const known = seeds.map((seed) => seed[at]).filter((score) => !Number.isNaN(score));
    return known.length ? known.reduce((sum, score) => sum + score, 0) / known.length : NaN;
  });
}

export function nameOf(column) {
  return column.condition.label ? `${column.task} (${column.condition.label})` : column.task;
}

export function costOf(row, page, key) {
  const at = page.costs.findIndex((cost) => cost.key === key);
  const value = at < 0 ? null : row.cost[at];
  return value === undefined ? null : value;
}

export function rowNamed(page, name) {
  return page.rows.find((row) => row.name === name) || null;
}

export function columnKeyed(page, key) {
  return page.columns.find((column) => column.key === key) || null;
}

export function describeCell(row, column, cell, forms) {
  if (!cell) return `${nameOf(column)}: ${NONE}, no run`;
  return `${nameOf(column)}, ${column.metric}: ${cellWords(cell, column, forms)}`;
}

// What a person who doesn't see the table is told of a cell.
export function cellWords(cell, column, { number, intervalText }) {
  if (!cell) return "no run";
  const parts = [number(cell.value)];
  parts.push(cell.known ? `95% interval ${intervalText(cell.low, cell.high)}` : "no interval");
  if (cell.rankLow === null) parts.push(cell.badges.length ? `not ranked: ${cell.badges.join(", ")}` : "not ranked");
  else {
    const range = cell.rankLow === cell.rankHigh ? `rank ${cell.rankLow}` : `rank ${cell.rankLow} to ${cell.rankHigh}`;
    parts.push(`${range} of ${column.ranked}`);
    if (cell.badges.length) parts.push(cell.badges.join(", "));
  }
  if (cell.claim === "best") parts.push("best here");
  if (cell.claim === "not told apart") parts.push("not told apart from the best");
  return parts.join(", ");
}
