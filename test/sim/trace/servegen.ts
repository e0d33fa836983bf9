/**
 * ServeGen (Alibaba, Apache-2.0): one file per client, a line per 10-minute
 * window: start (s), requests/s, coefficient of variation, pattern, 2 arguments.
 * Each client is taken as one model.
 *
 * The recorded rates are those of a whole provider (1,790 requests/s in
 * m-mid), so `rateScale` keeps a share p of them. Two ways:
 *
 * - `thin`: each request is kept with probability p. A renewal process of
 *   variation c thinned this way has variation sqrt(1 + p (c² - 1)) exactly:
 *   a burst of 1,000 requests at p = 0.001 leaves about one. Fewer users.
 * - `stretch`: the gaps grow by 1/p and the pattern is kept, as ServeGen's own
 *   generator does: the burst stays 1,000 requests, only rarer. The same users,
 *   each asking less often.
 *
 * Gaps are drawn with unit mean and consumed against the integral of the rate,
 * so that a gap may span windows, silent ones included.
 */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { createRandom, gammaFunction, type Random } from "../random.ts";
import type { Trace, TraceOptions, TraceRequest } from "./trace.ts";

interface RateWindow {
  readonly startMs: number;
  readonly rate: number;
  readonly variation: number;
  readonly pattern: string;
  readonly shape: number;
}

export function readServegen(folder: string, options: TraceOptions): Trace {
  const files = readdirSync(folder)
    .filter((file) => file.endsWith(".csv"))
    .sort((a, b) => numberIn(a) - numberIn(b));
  const clients = files.map((file) => readWindows(join(folder, file)));
  const models = files.map((file) => file.replace(/-trace\.csv$/, ""));
  const windowMs = clients[0][1].startMs - clients[0][0].startMs;
  const endMs = Math.max(
    ...clients.map((windows) => windows[windows.length - 1].startMs + windowMs),
  );
  const durationMs = Math.min(endMs, options.limitMs);
  return {
    name: basename(folder),
    models,
    durationMs,
    requests: () => {
      const streams = clients.map((windows, model) =>
        arrivals(
          windows,
          windowMs,
          createRandom(`${options.seed}/${models[model]}`),
          options,
        )
      );
      return merge(streams, durationMs);
    },
  };
}

function numberIn(file: string): number {
  return Number(/\d+/.exec(file)?.[0] ?? 0);
}

function readWindows(path: string): RateWindow[] {
  return readFileSync(path, "utf8").split("\n").filter((line) => line)
    .map((line) => {
      const [start, rate, variation, pattern, shape] = line.split(",");
      return {
        startMs: Number(start) * 1000,
        rate: Number(rate),
        variation: Number(variation) || 1,
        pattern,
        shape: Number(shape) || 1,
      };
    });
}

/** Arrival times of one client. */
function* arrivals(
  windows: readonly RateWindow[],
  windowMs: number,
  random: Random,
  options: TraceOptions,
): Generator<number, void> {
  let index = 0;
  let atMs = windows[0].startMs;
  while (true) {
    while (index < windows.length && windows[index].rate <= 0) {
      index++;
      if (index < windows.length) atMs = windows[index].startMs;
    }
    if (index >= windows.length) return;
    // Work left until the next request, in units of mean gaps.
    let left = unitGap(windows[index], random, options);
    while (true) {
      const perMs = windows[index].rate * options.rateScale / 1000;
      const endMs = windows[index].startMs + windowMs;
      const has = (endMs - atMs) * perMs;
      if (perMs > 0 && has >= left) {
        atMs += left / perMs;
        yield atMs;
        break;
      }
      left -= has;
      index++;
      if (index >= windows.length) return;
      atMs = windows[index].startMs;
    }
  }
}

function unitGap(
  window: RateWindow,
  random: Random,
  { rateScale, arrivals }: TraceOptions,
): number {
  if (arrivals === "thin" && rateScale < 1) {
    const squared = 1 + rateScale * (window.variation ** 2 - 1);
    return random.gamma(1 / squared) * squared;
  }
  const { shape } = window;
  return window.pattern === "Weibull"
    ? random.weibull(shape) / gammaFunction(1 + 1 / shape)
    : random.gamma(shape) / shape;
}

/** One stream of all clients, earliest first; ties go to the lower index. */
function* merge(
  streams: readonly Iterator<number, void>[],
  untilMs: number,
): Generator<TraceRequest> {
  const next = streams.map((stream) => {
    const step = stream.next();
    return step.done ? Infinity : step.value;
  });
  // A tournament tree over the streams: winner at 1, leaves at `base`.
  let base = 1;
  while (base < next.length) base *= 2;
  const tree = new Int32Array(2 * base).fill(-1);
  const better = (a: number, b: number) =>
    a < 0 ? b : b < 0 ? a : next[a] <= next[b] ? a : b;
  for (let i = 0; i < next.length; i++) tree[base + i] = i;
  for (let i = base - 1; i > 0; i--) {
    tree[i] = better(tree[2 * i], tree[2 * i + 1]);
  }
  while (true) {
    const model = tree[1];
    if (model < 0 || next[model] >= untilMs) return;
    yield {
      atMs: next[model],
      model,
      promptTokens: undefined,
      outputTokens: undefined,
    };
    const step = streams[model].next();
    next[model] = step.done ? Infinity : step.value;
    for (let i = (base + model) >> 1; i > 0; i >>= 1) {
      tree[i] = better(tree[2 * i], tree[2 * i + 1]);
    }
  }
}
