import { equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { test } from "vitest";
import { forecastPeak } from "./burst_forecast.ts";
import {
  emptyHistogram,
  idleQuantileMs,
  keepWindow,
  recordIdle,
} from "./idle_histogram.ts";
import {
  gpuMsPerRequest,
  type ModelCost,
  wakeTtftMs,
} from "./latency_model.ts";
import { addSample, emptyWindow, meanSince } from "./time_window.ts";

const cost: ModelCost = {
  weightsBytes: 8e9,
  promptTokensMean: 1000,
  outputTokensMean: 200,
  prefillTokensPerS: 20_000,
  stepMs: 4,
  stepMsPerSequence: 0.05,
  slots: 64,
  startMs: 30_000,
  wakeMs: { host: 900, disk: 2400, network: 8000 },
};

const windowOf = (values: readonly number[]) =>
  values.reduce(
    (window, value, i) =>
      addSample(window, { value, nowMs: (i + 1) * 1000, spanMs: 1e9 }),
    emptyWindow,
  );

test("forecastPeak() adds the quantile of past rises, as its example says", () => {
  const { level, rise, peak } = forecastPeak(windowOf([4, 4, 6, 4, 4, 9, 4]), {
    nowMs: 7000,
    horizonMs: 2000,
    levelMs: 1000,
    quantile: 0.8,
    samplesMin: 1,
  });
  equal(level, 4);
  equal(rise, 5);
  equal(peak, 9);
});

test("forecastPeak() assumes random arrivals before it knows the past", () => {
  const { rise } = forecastPeak(windowOf([8, 8]), {
    nowMs: 2000,
    horizonMs: 60_000,
    levelMs: 1000,
    quantile: 0.9,
    samplesMin: 30,
  });
  equal(rise, 2.33 * 4);
});

test("forecastPeak() is never under the level, and covers its share of the past", () => {
  fc.assert(fc.property(
    fc.array(fc.nat(100), { minLength: 20, maxLength: 120 }),
    (values) => {
      const window = windowOf(values);
      const horizonMs = 5000;
      const options = {
        nowMs: values.length * 1000,
        horizonMs,
        levelMs: 1000,
        quantile: 0.9,
        samplesMin: 1,
      };
      const { level, rise, peak } = forecastPeak(window, options);
      ok(peak >= level);
      // Brute force: how often the load rose by more within the horizon.
      const starts = values.length - 5;
      const worse = values.slice(0, starts).filter((value, i) =>
        Math.max(...values.slice(i + 1, i + 6)) - value > rise
      );
      ok(worse.length <= Math.floor(0.1 * starts) + 1e-9);
    },
  ));
});

test("idle quantiles come from the model's own rests", () => {
  let histogram = emptyHistogram;
  for (let i = 0; i < 99; i++) histogram = recordIdle(histogram, 60_000);
  histogram = recordIdle(histogram, 3_600_000);
  const median = idleQuantileMs(histogram, 0.5)!;
  ok(median >= 60_000 && median < 60_000 * 1.1);
  const longest = idleQuantileMs(histogram, 1)!;
  ok(longest >= 3_600_000 && longest < 3_600_000 * 1.1);
  equal(idleQuantileMs(emptyHistogram, 0.99), undefined);
});

test("idle habits fade: after many new rests the old ones no longer count", () => {
  let histogram = emptyHistogram;
  for (let i = 0; i < 100; i++) histogram = recordIdle(histogram, 3_600_000);
  for (let i = 0; i < 2000; i++) histogram = recordIdle(histogram, 10_000);
  ok(idleQuantileMs(histogram, 0.95)! < 20_000);
  ok(histogram.total < 256);
});

test("keepWindow() waits short rests out, and is back before long ones end", () => {
  const after = (...rests: number[]) =>
    keepWindow(rests.reduce(recordIdle, emptyHistogram), {
      leadMs: 120_000,
      keepMsMax: 4 * 3_600_000,
      coverage: 0.99,
    })!;
  const short = after(5_000, 60_000, 600_000);
  equal(short.fromMs, 0);
  ok(short.untilMs >= 600_000 && short.untilMs < 600_000 * 1.1);
  const hourMs = 3_600_000;
  const nightly = after(23 * hourMs, 24 * hourMs, 24.2 * hourMs);
  ok(nightly.fromMs > 12 * hourMs && nightly.fromMs < 23 * hourMs);
  equal(Math.round(nightly.untilMs - nightly.fromMs), 4 * hourMs);
  equal(
    keepWindow(emptyHistogram, { leadMs: 1, keepMsMax: 1, coverage: 1 }),
    undefined,
  );
});

test("a request costs less GPU time in a batch", () => {
  equal(gpuMsPerRequest(cost, 1), 50 + 200 * 4.05);
  equal(gpuMsPerRequest(cost, 16), 50 + 200 * (4 + 0.8) / 16);
  equal(wakeTtftMs(cost, "disk"), 2400 + 100);
  equal(wakeTtftMs({ ...cost, wakeMs: undefined }, "host"), 30_100);
});

test("windows forget what is older than their span", () => {
  const window = [1, 2, 3].reduce(
    (sum, value) => addSample(sum, { value, nowMs: value * 10, spanMs: 20 }),
    emptyWindow,
  );
  equal(meanSince(window, 30, 20), 2.5);
  equal(meanSince(window, 30, 5), 3);
  equal(meanSince(window, 100, 5), 0);
});
