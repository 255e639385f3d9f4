// Two models on the same items: what slmbench/statistics/pairs.py says of them, computed in the page from item scores.

import { fairCoin, tBeyond, tQuantile, tTails } from "./distributions.js";
import { interval, intervalWithin, spreadOfMean } from "./estimate.js";
import { clusteredSpread, effectiveClusters, members, signFlipP } from "./spread.js";

const POWER = 0.8;
const Z_95 = 1.959963984540054;
const Z_80 = 0.8416212335729143;
const NOTHING = 1e-12;
const MIN_CLUSTERS = 6;
const MIN_EFFECTIVE_CLUSTERS = 3;
// As slmbench/statistics/crossed.py has it.
const OFF_ITEMS = 0.75;

const total = (values) => values.reduce((sum, value) => sum + value, 0);

// b minus a. a, b: one array a seed, a score an item, NaN where there is none. clusters: one number an item, -1 alone,
// or null. bounds: [lowest, highest] score of an item, or null. Null if no item has all scores.
export function comparePair(a, b, { up, clusters = null, bounds = null }) {
  const both = [];
  for (let i = 0; i < a[0].length; i += 1) if ([...a, ...b].every((seed) => Number.isFinite(seed[i]))) both.push(i);
  if (!both.length) return null;
  const [first, second] = [a, b].map((seeds) => seeds.map((seed) => both.map((i) => seed[i])));
  const labels = clusters ? both.map((i) => clusters[i]) : null;
  const own = labels && labels.some((label) => label >= 0) ? labels : null;
  const width = bounds ? [bounds[0] - bounds[1], bounds[1] - bounds[0]] : null;
  const [from, to] = [means(first), means(second)];
  const made = single(from, to, own, width, up);
  const spreads = [seedSpread(first), seedSpread(second)];
  if (made.n === 1 || !spreads.some((spread) => spread.between + spread.left > 0)) return made;
  return overSeeds(made, to.map((score, i) => score - from[i]), own, width, spreads);
}

function means(seeds) {
  return seeds.length === 1 ? seeds[0] : seeds[0].map((_, i) => total(seeds.map((seed) => seed[i])) / seeds.length);
}

function single(first, second, labels, width, up) {
  const differences = second.map((score, i) => score - first[i]);
  const made = interval(differences, labels, width);
  const spread = clusteredSpread(differences, labels || differences.map(() => -1));
  const varies = spread.stderr > NOTHING * Math.abs(made.difference);
  const tellable = !labels || (spread.clusters >= MIN_CLUSTERS && spread.effective >= MIN_EFFECTIVE_CLUSTERS);
  const n = differences.length;
  const ties = differences.filter((difference) => difference === 0).length;
  const wins = differences.filter((difference) => difference !== 0 && difference > 0 === up).length;
  const losses = n - wins - ties;
  const binary = [...first, ...second].every((score) => score === 0 || score === 1);
  const p = labels ? clusteredP(differences, labels) : binary ? mcnemarP(wins, losses) : pairedP(differences, wins, losses);
  let detectable = varies && tellable && spread.freedom > 0 ? reach(spread.freedom) * spread.stderr : null;
  if (binary && !labels && varies) detectable = detectableOfShares(n, (wins + losses) / n);
  return { ...made, n, wins, losses, ties, p, detectable, method: labels ? "sign-flip" : binary ? "mcnemar-midp" : varies ? "paired-t" : "sign" };
}

// The smallest difference of right-or-wrong scores that n items show with 80% power, discordant ones being such a share;
// null if there is none. Two models that differ by so much do so on as many items at least.
function detectableOfShares(n, share) {
  const needed = (difference) => {
    const discordant = Math.max(share, difference);
    return ((Z_95 * Math.sqrt(discordant) + Z_80 * Math.sqrt(Math.max(0, discordant - difference ** 2))) / difference) ** 2;
  };
  if (needed(1) > n) return null;
  let low = 0;
  let high = 1;
  for (let step = 0; step < 60; step += 1) {
    const middle = (low + high) / 2;
    if (needed(middle) <= n) high = middle;
    else low = middle;
  }
  return high;
}

// What seeds add to the variance of a mean over them and the items.
function seedSpread(seeds) {
  const k = seeds.length;
  const n = seeds[0].length;
  if (seeds.every((seed) => seed.every((score, i) => score === seeds[0][i]))) return { between: 0, left: 0, freedom: Math.max(1, k - 1) };
  const byItem = means(seeds);
  const bySeed = seeds.map((seed) => total(seed) / n);
  const whole = total(bySeed) / k;
  const between = (n * total(bySeed.map((mean) => (mean - whole) ** 2))) / (k - 1);
  const rest = total(seeds.map((seed, s) => total(seed.map((score, i) => (score - bySeed[s] - byItem[i] + whole) ** 2)))) / Math.max(1, (k - 1) * (n - 1));
  return { between: Math.max(0, between - (1 - OFF_ITEMS) * rest) / (k * n), left: (OFF_ITEMS * rest) / (k * n), freedom: k - 1 };
}

function overSeeds(made, differences, labels, width, spreads) {
  const [variance, freedom] = spreadOfMean(differences, labels, width);
  const left = total(spreads.map((spread) => spread.left));
  const parts = [[Math.max(0, variance - left), Math.max(0.5, freedom)], ...spreads.map((spread) => [spread.between, spread.freedom])];
  const halfSquared = total(parts.map(([part, degrees]) => tQuantile(0.975, degrees) ** 2 * part));
  const half = Math.sqrt(halfSquared);
  const inside = width && width[0] < made.difference && made.difference < width[1];
  const [low, high] = inside ? intervalWithin(made.difference, halfSquared, width) : [made.difference - half, made.difference + half];
  // On so few clusters nothing is told apart.
  const few = labels && made.detectable === null && made.stderr > 0;
  return {
    ...made, low, high, stderr: Math.sqrt(total(parts.map(([part]) => part))), p: few ? 1 : partsP(made.difference, parts), method: "seeds-items",
    detectable: few ? null : Math.sqrt(total(parts.map(([part, degrees]) => reach(degrees) ** 2 * part))),
  };
}

// The p at which the interval of that confidence ends at 0: each part of the variance has a t of its own.
function partsP(lead, parts) {
  if (!(total(parts.map(([part]) => part)) > 0)) return 1;
  const rounded = parts.map(([part, degrees]) => [part, Math.max(0.5, degrees < 50 ? Math.floor(4 * degrees) / 4 : Math.floor(Math.min(degrees, 1000)))]);
  const reached = (p) => Math.sqrt(total(rounded.map(([part, degrees]) => (part > 0 ? tBeyond(p, degrees) ** 2 * part : 0))));
  let low = -30;
  let high = 0;
  for (let step = 0; step < 50; step += 1) {
    const middle = (low + high) / 2;
    if (reached(10 ** middle) > Math.abs(lead)) low = middle;
    else high = middle;
  }
  return 10 ** high;
}

function reach(freedom) {
  return tQuantile(0.975, freedom) + tQuantile(POWER, freedom);
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
  return stderr <= NOTHING * Math.abs(mean) ? mcnemarP(wins, losses) : tTails(mean / stderr, n - 1);
}

function clusteredP(differences, labels) {
  const groups = members(labels);
  if (effectiveClusters(groups) < MIN_EFFECTIVE_CLUSTERS) return 1;
  return signFlipP(groups.map((group) => total(group.map((position) => differences[position]))));
}
