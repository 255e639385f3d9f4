// One item down to the raw output: what was asked, what was right, and what one model wrote, or two, word by word.

import { load } from "./data.js";
import { wordDiff } from "./diff.js";
import { h } from "./dom.js";
import { number, plural } from "./forms.js";

// sides: [{row, runs, scores, tone, label, items, place}]; items, place: of a side that was asked under another condition,
// its own items, and where in them each of `items` is.
export async function sampleOf(items, sides, position, column) {
  const parts = await Promise.all(sides.map((side) => partOf(side, items, position)));
  const first = parts.find((one) => one);
  if (!first) return withoutTexts(items, sides, position, column);
  const [prompt, target, others, choices, gold] = first.asked;
  const prompts = sides.map((_, at) => parts[at] && parts[at].asked[0] !== prompt && parts[at].asked[0]);
  const shared = !prompts.some(Boolean);
  return h("div", {},
    shared && part(`Prompt, ${items.ids[position]}`, text(prompt)),
    !shared && h("div.sides", {}, sides.map((side, at) => h(`section.side.${side.tone}`, {}, h("h3", {}, `Prompt, ${side.label}`), text(prompts[at] || prompt)))),
    part("Target", text(target)),
    others.length > 0 && part("Also right", others.map(text)),
    answers(sides, parts.map((one) => (one ? one.samples : [])), choices, gold, position, column));
}

// {what was asked, what each run wrote} of an item, null without texts.
async function partOf(side, items, position) {
  const own = side.items || items;
  const place = side.place ? side.place[position] : position;
  const at = place < 0 ? -1 : own.texts ? own.texts.indexOf(place) : place;
  if (at < 0) return null;
  const block = Math.floor(at / own.per);
  const within = at % own.per;
  const [asked, ...wrote] = await Promise.all([load(own.asked[block]), ...side.runs.map((run) => load(run.wrote[block]))]);
  return { asked: asked[within], samples: wrote.map((run) => run[within] || []) };
}

function part(title, ...content) {
  return h("section", {}, h("h3", {}, title), content);
}

function text(content) {
  return content ? h("pre", {}, content) : h("p.nothing", {}, "(empty)");
}

function answers(sides, samples, choices, gold, position, column) {
  const firsts = samples.map((runs) => (runs[0] && runs[0][0] ? runs[0][0][0] : null));
  const both = sides.length === 2 && firsts[0] !== null && firsts[1] !== null && !choices;
  const marks = both ? wordDiff(firsts[0], firsts[1]) : [];
  return h("div.sides", {}, sides.map((side, at) => h(`section.side.${side.tone}`, {},
    h("h3", {}, side.label, " ", h("span", {}, `${column.metric} ${score(side.scores[position])}`)),
    choices && samples[at][0] && choiceList(choices, gold, samples[at][0][0]),
    samples[at].map((epochs, run) => epochs.map((sample, epoch) => [
      (samples[at].length > 1 || epochs.length > 1) && h("h4", {}, which(side.runs[run], samples[at].length, epoch, epochs.length)),
      run === 0 && epoch === 0 && both ? h("pre", {}, marks[at].length ? marks[at] : "(empty)") : !choices && text(sample[0]),
      terms(sample[1]),
    ])))));
}

function score(value) {
  return Number.isNaN(value) ? "no score" : number(value);
}

function which(run, runs, epoch, epochs) {
  return [runs > 1 && `run ${run.id}`, epochs > 1 && `sample ${epoch + 1}`].filter(Boolean).join(", ");
}

// The options with their log-likelihoods as lines to scale; the right one and the chosen one are named.
function choiceList(choices, gold, sample) {
  const [output, , likelihoods = []] = sample || [null, [], []];
  const known = choices.map((_, at) => likelihoods[at]).filter((value) => typeof value === "number");
  const most = Math.max(...known);
  return h("ol.choices", {}, choices.map((choice, at) => {
    const value = likelihoods[at];
    const notes = [typeof value === "number" && `${value.toFixed(2)} nats`, at === gold && "right", choice === output && "chosen"];
    const kind = [at === gold && ".right", choice === output && ".chosen"].filter(Boolean).join("");
    // exp of what it falls short of the likeliest: how probable it is beside that one.
    const beside = typeof value === "number" ? Math.exp(value - most) * 100 : 0;
    return h(`li${kind}`, { "--share": beside.toFixed(1) }, h("span", {}, choice), " ", h("small", {}, notes.filter(Boolean).join(", ")));
  }));
}

function terms(told) {
  return told.length > 0 && h("dl.facts", {}, told.map(([term, words]) => h("div", {}, h("dt", {}, term), h("dd", {}, words))));
}

function withoutTexts(items, sides, position, column) {
  return h("div", {},
    part(`Item ${items.ids[position]}`, h("p.nothing", {},
      `The page has the texts of ${plural(items.texts ? items.texts.length : 0, "item")} of these ${items.ids.length.toLocaleString("en")}; samples.jsonl of the run has them all.`)),
    h("dl.facts", {}, sides.map((side) => h("div", {}, h("dt", {}, side.label), h("dd", {}, `${column.metric} ${score(side.scores[position])}`)))),
    sides.flatMap((side) => side.runs.filter((run) => run.samples).map((run) => h("p", {}, h("a", { href: run.samples }, run.place)))));
}
