// Means with 95% intervals: as slmbench/statistics/estimate.py makes them.

import { tQuantile } from "./distributions.js";
import { clusteredSpread } from "./spread.js";

const Z_95 = 1.959963984540054;

const total = (values) => values.reduce((sum, value) => sum + value, 0);

// The mean's 95% interval, as `estimate` makes it of such values. clusters: a number a value, -1 alone, or null.
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
  const [low, high] = intervalWithin(mean, tQuantile(0.975, n - 1) ** 2 * guarded(values, mean, bounds), bounds);
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

function wilson(share, n, z) {
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
  const [low, high] = intervalWithin(mean, (tQuantile(0.975, spread.freedom) * spread.stderr) ** 2, bounds);
  return { difference: mean, stderr: spread.stderr, low, high };
}

// The variance of the mean of values strictly within bounds, not smaller where it hangs on few items.
function guarded(values, mean, bounds) {
  const n = values.length;
  const squares = values.map((value) => (value - mean) ** 2);
  const second = total(squares);
  let weight = 1;
  if (values.some((value) => value !== values[0])) {
    const share = total(squares.map((square) => square * square)) / (second * second);
    weight = Math.min(1, Math.max(0, 2 * (share - 3 / n)));
  }
  const [low, high] = bounds;
  const all = n + 2 * weight;
  const middle = (total(values) + weight * (low + high)) / all;
  let spread = total(values.map((value) => (value - middle) ** 2));
  spread += weight * ((low - middle) ** 2 + (high - middle) ** 2);
  return ((spread / (all - 1) / n) * ((mean - low) * (high - mean))) / ((middle - low) * (high - middle));
}

// [variance of the mean, degrees of freedom] where no interval of right or wrong is made.
export function spreadOfMean(values, clusters, bounds) {
  if (clusters) {
    const spread = clusteredSpread(values, clusters);
    return [spread.stderr ** 2, spread.freedom];
  }
  const n = values.length;
  const mean = total(values) / n;
  if (bounds && bounds[0] < mean && mean < bounds[1]) return [guarded(values, mean, bounds), n - 1];
  return [total(values.map((value) => (value - mean) ** 2)) / (n - 1) / n, n - 1];
}

// Wilson's interval, half as wide, but for what the bounds bend, as the root of halfSquared.
export function intervalWithin(mean, halfSquared, bounds) {
  const [low, high] = bounds;
  const items = halfSquared > 0 ? ((mean - low) * (high - mean)) / halfSquared : Infinity;
  if (!(items > 0 && items < Infinity)) return [mean, mean];
  return scaled(bounds, wilson((mean - low) / (high - low), items, 1));
}

function scaled(bounds, [low, high]) {
  const width = bounds[1] - bounds[0];
  return [bounds[0] + width * low, bounds[0] + width * high];
}
