/**
 * Histogram bounds in seconds: vLLM's, so that dashboards keep working, with finer steps at the
 * low end for small models.
 */
export const firstTokenBuckets = [
  0.001,
  0.005,
  0.01,
  0.02,
  0.04,
  0.06,
  0.08,
  0.1,
  0.25,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10,
  20,
  40,
  80,
  160,
  640,
  2560,
];

export const tokenBuckets = [
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.075,
  0.1,
  0.15,
  0.2,
  0.3,
  0.4,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10,
  20,
  40,
  80,
];

export const requestBuckets = [
  0.01,
  0.05,
  0.1,
  0.3,
  0.5,
  0.8,
  1,
  1.5,
  2,
  2.5,
  5,
  10,
  15,
  20,
  30,
  40,
  50,
  60,
  120,
  240,
  480,
  960,
  1920,
  7680,
];

/** Tokens of a request: 1, 2, 5, 10, 20, 50 … */
export const tokenCountBuckets = [1, 10, 100, 1_000, 10_000, 100_000]
  .flatMap((power) => [power, 2 * power, 5 * power]);
