// The precision of a mean whose items move together, and a test of signs over clusters: as slmbench/statistics/clusters.py.

import { logNormal } from "./distributions.js";

const ENUMERATED = 28;
const LARGE = 8;

// Positions by cluster; -1 stands alone.
export function members(clusters) {
  const found = new Map();
  clusters.forEach((label, position) => {
    const key = label < 0 ? `alone ${position}` : label;
    if (found.has(key)) found.get(key).push(position);
    else found.set(key, [position]);
  });
  return Array.from(found.values());
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

export function effectiveClusters(groups) {
  const n = total(groups.map((group) => group.length));
  return (n * n) / total(groups.map((group) => group.length ** 2));
}

// CR2's standard error of the mean and Satterthwaite's degrees of freedom.
export function clusteredSpread(values, clusters) {
  const groups = members(clusters);
  const n = values.length;
  const effective = effectiveClusters(groups);
  if (groups.length === 1) return { stderr: 0, freedom: 0, clusters: 1, effective };
  const mean = total(values) / n;
  const centred = values.map((value) => value - mean);
  const sizes = groups.map((group) => group.length);
  const sums = groups.map((group) => total(group.map((position) => centred[position])));
  const correlation = correlationWithin(centred, sums, sizes);
  const errors = sizes.map((size) => size * (1 - correlation) + correlation * size * size);
  const shares = sizes.map((size) => size / n);
  const [bias, freedom] = bellMcCaffrey(shares, errors);
  const variance = total(sums.map((sum, g) => (sum * sum) / (1 - shares[g]))) / n ** 2 / Math.min(bias, 1);
  return { stderr: Math.sqrt(variance), freedom, clusters: groups.length, effective };
}

function correlationWithin(centred, sums, sizes) {
  const n = centred.length;
  const groups = sizes.length;
  if (n === groups) return 0;
  const between = total(sums.map((sum, g) => (sum * sum) / sizes[g]));
  const within = Math.max(0, total(centred.map((value) => value * value)) - between) / (n - groups);
  const size = (n - total(sizes.map((each) => each * each)) / n) / (groups - 1);
  const shared = Math.max(0, (between / (groups - 1) - within) / size);
  return shared + within > 0 ? shared / (shared + within) : 0;
}

function bellMcCaffrey(shares, errors) {
  const weights = shares.map((share) => 1 / (1 - share));
  const all = total(errors);
  const diagonal = shares.map((share, g) => -2 * share * errors[g] + all * share * share);
  const trace = total(weights.map((weight, g) => weight * (errors[g] + diagonal[g])));
  const product = (first, second) => total(weights.map((weight, g) => weight * first[g] * second[g]));
  const qq = product(shares, shares);
  const ww = product(errors, errors);
  const qw = product(shares, errors);
  const outer = 2 * qq * ww + 2 * qw ** 2 + all ** 2 * qq ** 2 - 4 * all * qq * qw;
  const squared = outer + total(weights.map((weight, g) => weight ** 2 * (2 * errors[g] * diagonal[g] + errors[g] ** 2)));
  return [trace / all, trace ** 2 / squared];
}

// Two-sided p of "each cluster's sum of differences could as well have had the other sign".
export function signFlipP(sums) {
  let parts = sums.filter((sum) => sum !== 0).map(Math.abs);
  if (!parts.length) return 1;
  const scale = Math.sqrt(total(parts.map((part) => part * part)));
  parts = parts.map((part) => part / scale).sort((a, b) => b - a);
  const wanted = Math.abs(total(sums)) / scale;
  const least = 2 ** (1 - parts.length);
  if (wanted >= total(parts) - 1e-12) return Math.min(1, least);
  if (parts.length <= ENUMERATED) {
    const even = totals(parts.filter((_, at) => at % 2 === 0));
    const odd = totals(parts.filter((_, at) => at % 2 === 1));
    return Math.min(1, 2 * shareReaching(even, odd, wanted));
  }
  const large = parts.slice(0, LARGE).filter((part) => part * part > 1 / 30);
  const rest = parts.slice(large.length);
  const tails = Array.from(totals(large), (sum) => saddlepointTail(rest, wanted - sum));
  return Math.min(1, Math.max(least, (2 * total(tails)) / tails.length));
}

// The sums of all patterns of signs.
function totals(parts) {
  const found = new Float64Array(2 ** parts.length);
  let size = 1;
  for (const part of parts) {
    for (let i = 0; i < size; i += 1) {
      found[size + i] = found[i] - part;
      found[i] += part;
    }
    size *= 2;
  }
  return found;
}

function shareReaching(first, second, wanted) {
  const ordered = second.sort();
  const least = first.sort().reverse();
  let reached = 0;
  let from = 0;
  for (const sum of least) {
    // `least` falls, so what the other half has to add rises.
    while (from < ordered.length && ordered[from] < wanted - 1e-9 - sum) from += 1;
    reached += ordered.length - from;
  }
  return reached / (first.length * second.length);
}

// P(sum of +-parts >= wanted) for fair signs, by Lugannani and Rice.
function saddlepointTail(parts, sought) {
  const wanted = Math.abs(sought);
  const most = total(parts);
  const other = (tail) => (sought < 0 ? 1 - tail : tail);
  if (wanted >= most) return other(0);
  if (wanted >= most * (1 - 1e-12) || wanted <= 1e-6 * Math.sqrt(total(parts.map((part) => part * part)))) return other(0.5);
  const mean = (t) => total(parts.map((part) => part * Math.tanh(t * part)));
  let low = 0;
  let high = 1 / Math.max(...parts);
  while (mean(high) < wanted) high *= 2;
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (mean(middle) < wanted) low = middle;
    else high = middle;
  }
  const t = high;
  const generating = total(parts.map((part) => t * part + Math.log1p(Math.exp(-2 * t * part)) - Math.LN2));
  const curvature = total(parts.map((part) => (part / Math.cosh(Math.min(t * part, 300))) ** 2));
  const w = Math.sqrt(Math.max(2 * (t * wanted - generating), 1e-300));
  const u = Math.max(t * Math.sqrt(curvature), 1e-300);
  return other(w < 1e-4 ? 0.5 : Math.exp(logNormal(-(w + Math.log(u / w) / w))));
}
