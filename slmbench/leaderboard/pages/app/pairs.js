// Two models on the same items: what slmbench/statistics/pairs.py says of them, computed in the page from item scores.

import { fairCoin, tQuantile, tTails } from "./distributions.js";
import { clusteredSpread, effectiveClusters, members, signFlipP } from "./spread.js";

const Z_95 = 1.959963984540054;
const POWER = 0.8;
const MIN_EFFECTIVE_CLUSTERS = 3;

const total = (values) => values.reduce((sum, value) => sum + value, 0);

// b minus a. a, b: one score an item, NaN where there is none. clusters: one number an item, -1 alone, or null.
// bounds: [lowest, highest] score of an item, or null. Null if no item has both scores.
export function comparePair(a, b, { up, clusters = null, bounds = null }) {
  const differences = [];
  const labels = [];
  let binary = true;
  let wins = 0;
  let ties = 0;
  for (let i = 0; i < a.length; i += 1) {
    if (!Number.isFinite(a[i]) || !Number.isFinite(b[i])) continue;
    differences.push(b[i] - a[i]);
    if (clusters) labels.push(clusters[i]);
    binary = binary && (a[i] === 0 || a[i] === 1) && (b[i] === 0 || b[i] === 1);
    if (a[i] === b[i]) ties += 1;
    else if (b[i] > a[i] === up) wins += 1;
  }
  const n = differences.length;
  if (!n) return null;
  const clustered = labels.some((label) => label >= 0);
  const alone = differences.map(() => -1);
  const spread = clusteredSpread(differences, clustered ? labels : alone);
  const width = bounds ? [bounds[0] - bounds[1], bounds[1] - bounds[0]] : null;
  const made = interval(differences, clustered ? labels : null, width);
  const losses = n - wins - ties;
  const told = clustered ? clusteredP(differences, labels) : binary ? mcnemarP(wins, losses) : pairedP(differences, wins, losses);
  return {
    ...made, n, wins, losses, ties, p: told,
    method: clustered ? "sign-flip" : binary ? "mcnemar-midp" : spread.stderr > 0 ? "paired-t" : "sign",
    detectable: spread.freedom > 0 && spread.stderr > 0
      ? (tQuantile(0.975, spread.freedom) + tQuantile(POWER, spread.freedom)) * spread.stderr : null,
  };
}

export function mcnemarP(wins, losses) {
  if (wins === losses) return 1;
  const fewer = Math.min(wins, losses);
  return fairCoin(fewer - 1, wins + losses) + fairCoin(fewer, wins + losses);
}

function pairedP(differences, wins, losses) {
  const n = differences.length;
  if (n < 2) return 1;
  const mean = total(differences) / n;
  const stderr = Math.sqrt(total(differences.map((value) => (value - mean) ** 2)) / (n - 1) / n);
  if (stderr <= 1e-12 * Math.abs(mean)) return mcnemarP(wins, losses);
  return stderr === 0 ? 1 : tTails(mean / stderr, n - 1);
}

function clusteredP(differences, labels) {
  const groups = members(labels);
  if (effectiveClusters(groups) < MIN_EFFECTIVE_CLUSTERS) return 1;
  return signFlipP(groups.map((group) => total(group.map((position) => differences[position]))));
}

// The mean's 95% interval, as `estimate` of slmbench/statistics/estimate.py makes it of such values.
export function interval(values, clusters, range) {
  const n = values.length;
  const mean = total(values) / n;
  const ends = range || [0, 1];
  const binary = values.every((value) => value === ends[0] || value === ends[1]);
  const bounds = binary ? ends : range;
  if (clusters) return clusteredInterval(values, clusters, mean, bounds);
  if (binary) {
    const share = values.filter((value) => value === ends[1]).length / n;
    const [low, high] = scaled(ends, wilson(share, n, Z_95));
    const stderr = (ends[1] - ends[0]) * Math.sqrt((share * (1 - share)) / n);
    return { difference: mean, stderr, low: Math.min(low, mean), high: Math.max(high, mean) };
  }
  if (n === 1) return certain(mean);
  const variance = total(values.map((value) => (value - mean) ** 2)) / (n - 1);
  const stderr = Math.sqrt(variance / n);
  if (!bounds) return tInterval(mean, stderr, n - 1);
  const [middle, guarded] = guardedVariance(values, mean, bounds);
  const items = ((middle - bounds[0]) * (bounds[1] - middle)) / (guarded / n);
  const [low, high] = boundedInterval(mean, items, n - 1, bounds);
  return { difference: mean, stderr, low, high };
}

function certain(mean) {
  return { difference: mean, stderr: 0, low: mean, high: mean };
}

function tInterval(mean, stderr, freedom) {
  if (stderr <= 1e-12 * Math.abs(mean)) return certain(mean);
  const half = tQuantile(0.975, freedom) * stderr;
  return { difference: mean, stderr, low: mean - half, high: mean + half };
}

export function wilson(share, n, z) {
  const shrink = 1 + (z * z) / n;
  const middle = (share + (z * z) / (2 * n)) / shrink;
  const half = (z * Math.sqrt((share * (1 - share)) / n + (z * z) / (4 * n * n))) / shrink;
  return [Math.max(0, Math.min(share, middle - half)), Math.min(1, Math.max(share, middle + half))];
}

function clusteredInterval(values, clusters, mean, bounds) {
  const spread = clusteredSpread(values, clusters);
  if (bounds && (mean === bounds[0] || mean === bounds[1])) {
    const [low, high] = scaled(bounds, wilson(mean === bounds[1] ? 1 : 0, spread.effective, Z_95));
    return { difference: mean, stderr: 0, low, high };
  }
  if (spread.clusters === 1) return certain(mean);
  if (!bounds) return tInterval(mean, spread.stderr, spread.freedom);
  if (spread.stderr <= 1e-12 * (bounds[1] - bounds[0])) {
    const share = (mean - bounds[0]) / (bounds[1] - bounds[0]);
    const [low, high] = scaled(bounds, wilson(share, spread.effective, Z_95));
    return { difference: mean, stderr: 0, low: Math.min(low, mean), high: Math.max(high, mean) };
  }
  const items = ((mean - bounds[0]) * (bounds[1] - mean)) / spread.stderr ** 2;
  const [low, high] = boundedInterval(mean, items, spread.freedom, bounds);
  return { difference: mean, stderr: spread.stderr, low, high };
}

function guardedVariance(values, mean, bounds) {
  const n = values.length;
  const squares = values.map((value) => (value - mean) ** 2);
  const second = total(squares);
  let weight = 1;
  if (values.some((value) => value !== values[0])) {
    const share = total(squares.map((square) => square * square)) / (second * second);
    weight = Math.min(1, Math.max(0, 3 * (share - 2 / n)));
  }
  const all = n + 2 * weight;
  const middle = (total(values) + weight * (bounds[0] + bounds[1])) / all;
  let spread = total(values.map((value) => (value - middle) ** 2));
  spread += weight * ((bounds[0] - middle) ** 2 + (bounds[1] - middle) ** 2);
  return [middle, spread / (all - 1)];
}

function boundedInterval(mean, items, freedom, bounds) {
  const share = (mean - bounds[0]) / (bounds[1] - bounds[0]);
  return scaled(bounds, wilson(share, items, tQuantile(0.975, freedom)));
}

function scaled(bounds, [low, high]) {
  const width = bounds[1] - bounds[0];
  return [bounds[0] + width * low, bounds[0] + width * high];
}
