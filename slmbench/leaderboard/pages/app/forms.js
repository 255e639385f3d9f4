// Numbers as people read them. The Python side writes them in the same forms (slmbench/leaderboard/texts.py).

export const NONE = "\u2014";

export function number(value) {
  return Math.abs(value) < 100 ? value.toFixed(3) : String(Number(value.toPrecision(4)));
}

export function signed(value) {
  const shown = number(Math.abs(value));
  return Number(shown) === 0 ? shown : (value < 0 ? "\u2212" : "+") + shown;
}

export function intervalText(low, high) {
  return low < 0 ? `${number(low).replace("-", "\u2212")} to ${number(high).replace("-", "\u2212")}` : `${number(low)}\u2013${number(high)}`;
}

export function pValue(p) {
  if (p < 0.0001) return "p < 0.0001";
  return `p = ${p < 0.001 ? p.toFixed(5) : p < 0.01 ? p.toFixed(4) : p < 0.1 ? p.toFixed(3) : p.toFixed(2)}`;
}

export function count(value) {
  for (const [size, unit] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size * 0.9995) {
      const short = value / size;
      return short >= 99.95 ? short.toFixed(0) + unit : short.toFixed(1) + unit;
    }
  }
  return value.toFixed(0);
}

export function bytes(value) {
  if (value === 0) return "0";
  const short = count(value).replace("B", "G");
  return /[a-zA-Z]$/.test(short) ? `${short.slice(0, -1)} ${short.slice(-1)}B` : `${short} B`;
}

export function duration(seconds) {
  if (seconds === 0) return "0";
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 99.5) return seconds < 9.95 ? `${seconds.toFixed(1)} s` : `${seconds.toFixed(0)} s`;
  return seconds < 5970 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

export function percent(share) {
  return share >= 0.0995 ? `${(share * 100).toFixed(0)}%` : share >= 0.001 ? `${(share * 100).toFixed(1)}%` : "under 0.1%";
}

export const FORMS = { count, bytes, duration, number };

export function ranks(low, high) {
  return low === high ? String(low) : `${low}\u2013${high}`;
}

export function plural(amount, noun) {
  return amount === 1 ? `1 ${noun}` : `${amount.toLocaleString("en")} ${noun}s`;
}

// "qwen <2b": words that a name must have, and bounds on its parameters ("2b" alone is a word). unclear: what begins
// like a bound and is none; it bounds nothing.
export function readFilter(text) {
  const words = [];
  const bounds = [];
  const unclear = [];
  for (const part of text.toLowerCase().split(/\s+/).filter(Boolean)) {
    const bound = /^(<=|>=|<|>)(\d+(?:\.\d+)?)([kmbgt]?)b?$/.exec(part);
    if (!bound) {
      (/^[<>]/.test(part) ? unclear : words).push(part);
      continue;
    }
    const unit = { k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12, "": 1 }[bound[3] || (part.endsWith("b") ? "b" : "")];
    bounds.push([bound[1], Number(bound[2]) * unit]);
  }
  return { words, bounds, unclear };
}

export function passes(filter, text, parameters) {
  const lower = text.toLowerCase();
  const negated = (word) => word.length > 1 && word.startsWith("-");
  if (!filter.words.every((word) => (negated(word) ? !lower.includes(word.slice(1)) : lower.includes(word)))) return false;
  if (!filter.bounds.length) return true;
  if (parameters === null) return false;
  const holds = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b };
  return filter.bounds.every(([sign, bound]) => holds[sign](parameters, bound));
}
