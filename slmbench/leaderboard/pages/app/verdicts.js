// What became of each item: right or wrong of one model; who was right, or better, of two.

export function isBinary(arrays) {
  return arrays.every((scores) => scores.every((score) => score === 0 || score === 1 || Number.isNaN(score)));
}

// kinds: [key, words, class], those to look at first first. of: item -> position in kinds, -1 if nothing can be said.
// told: what a sandbox said of each item's program, null without it; those that were not right are parted by it.
export function verdictsOfOne(scores, up, told = null) {
  const binary = isBinary([scores]);
  if (binary && told) return verdictsOfPrograms(scores, up, told);
  const known = Array.from(scores).filter((score) => !Number.isNaN(score));
  const mean = known.reduce((sum, score) => sum + score, 0) / (known.length || 1);
  const kinds = binary
    ? [["wrong", "wrong", "wrong"], ["none", "no score", "none"], ["right", "right", "right"]]
    : [["worse", "worse than its mean", "wrong"], ["none", "no score", "none"], ["better", "its mean or better", "right"]];
  const of = Array.from(scores, (score) => {
    if (Number.isNaN(score)) return 1;
    if (binary) return (score === 1) === up ? 2 : 0;
    return (up ? score < mean : score > mean) ? 0 : 2;
  });
  return { binary, kinds, of };
}

function verdictsOfPrograms(scores, up, told) {
  const right = (at) => (scores[at] === 1) === up;
  const said = Array.from(new Set(told.filter((verdict, at) => !Number.isNaN(scores[at]) && !right(at)))).sort();
  const kinds = [...said.map((verdict) => [`wrong: ${verdict}`, `wrong: ${verdict || "no verdict"}`, "wrong"]), ["none", "no score", "none"], ["right", "right", "right"]];
  const of = Array.from(scores, (score, at) => {
    if (Number.isNaN(score)) return said.length;
    return right(at) ? said.length + 1 : said.indexOf(told[at]);
  });
  return { binary: true, kinds, of };
}

export function verdictsOfTwo(a, b, up) {
  const binary = isBinary([a, b]);
  const kinds = binary
    ? [["b", "only B right", "b"], ["a", "only A right", "a"], ["wrong", "both wrong", "wrong"], ["none", "no score of both", "none"], ["right", "both right", "right"]]
    : [["b", "B better", "b"], ["a", "A better", "a"], ["none", "no score of both", "none"], ["same", "the same", "right"]];
  const of = Array.from(a, (first, at) => {
    const second = b[at];
    if (Number.isNaN(first) || Number.isNaN(second)) return binary ? 3 : 2;
    if (first !== second) return second > first === up ? 0 : 1;
    if (!binary) return 3;
    return (first === 1) === up ? 4 : 2;
  });
  return { binary, kinds, of };
}

// Items in the order that they are looked at: by kind, those with texts first, among real scores the largest difference.
// texts: positions of the items whose texts the page has, null for all.
export function ordered(verdicts, sizes, texts) {
  const there = texts && new Set(texts);
  const silent = (at) => (there && !there.has(at) ? 1 : 0);
  const order = verdicts.of.map((_, at) => at);
  const size = (at) => (sizes && !Number.isNaN(sizes[at]) ? sizes[at] : 0);
  return order.sort((x, y) => verdicts.of[x] - verdicts.of[y] || silent(x) - silent(y) || size(y) - size(x) || x - y);
}
