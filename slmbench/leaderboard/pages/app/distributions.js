// Student's t, the normal and the binomial distribution, as far as paired tests need them.

// log Gamma, to about 1e-15 of its value (Lanczos 1964, g = 7, nine terms).
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
];

export function logGamma(x) {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  let sum = LANCZOS[0];
  for (let i = 1; i < 9; i += 1) sum += LANCZOS[i] / (x - 1 + i);
  const t = x + 6.5;
  return 0.5 * Math.log(2 * Math.PI) + (x - 0.5) * Math.log(t) - t + Math.log(sum);
}

// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction.
export function incompleteBeta(x, a, b) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log1p(-x));
  if (x > (a + 1) / (a + b + 2)) return 1 - (front * betaFraction(1 - x, b, a)) / b;
  return (front * betaFraction(x, a, b)) / a;
}

function betaFraction(x, a, b) {
  const tiny = 1e-300;
  const kept = (value) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1;
  let d = 1 / kept(1 - ((a + b) * x) / (a + 1));
  let result = d;
  for (let m = 1; m < 10000; m += 1) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / kept(1 + even * d);
    c = kept(1 + even / c);
    result *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / kept(1 + odd * d);
    c = kept(1 + odd / c);
    result *= d * c;
    if (Math.abs(d * c - 1) < 1e-16) break;
  }
  return result;
}

// P(|T| >= |t|).
export function tTails(t, freedom) {
  return incompleteBeta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

// The t that a share of the distribution lies below; 0.5 <= share < 1. By halving: it is asked for a few times a page.
export function tQuantile(share, freedom) {
  return tBeyond(2 * (1 - share), freedom);
}

// The t that |T| is beyond with probability p.
export function tBeyond(p, freedom) {
  let low = 0;
  let high = 2;
  while (tTails(high, freedom) > p && high < 1e300) high *= 2;
  for (let step = 0; step < 90; step += 1) {
    const middle = (low + high) / 2;
    if (tTails(middle, freedom) > p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

// P(X <= k) of a fair coin tossed n times.
export function fairCoin(k, n) {
  if (k < 0) return 0;
  return k >= n ? 1 : incompleteBeta(0.5, n - k, k + 1);
}

// log P(Z < x) of the normal distribution, for x <= 0 down to where its value is nothing.
export function logNormal(x) {
  if (x > -6) return Math.log(0.5 * erfc(-x / Math.SQRT2));
  let fraction = 0;
  for (let k = 60; k > 0; k -= 1) fraction = k / (-x + fraction);
  return -0.5 * x * x - 0.5 * Math.log(2 * Math.PI) - Math.log(-x + fraction);
}

function erfc(x) {
  // By the incomplete gamma function's series near 0 and its fraction further out.
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let term = x;
    let sum = x;
    for (let k = 1; Math.abs(term) > 1e-18 * sum && k < 200; k += 1) {
      term *= (-x * x) / k;
      sum += term / (2 * k + 1);
    }
    return 1 - (2 / Math.sqrt(Math.PI)) * sum;
  }
  let fraction = 0;
  for (let k = 100; k > 0; k -= 1) fraction = k / 2 / (x + fraction);
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * (x + fraction));
}
