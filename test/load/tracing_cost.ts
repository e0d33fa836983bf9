/** What tracing costs the request path: requests with it and without, in turn. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { StoreState } from "../../services/dashboard/api_types.ts";
import { type Mesh, startMesh } from "../mesh/start_mesh.ts";
import type { Generator } from "./generator.ts";
import { meshGenerator } from "./mesh_generator.ts";
import { threadSeconds } from "./process_figures.ts";
import { interval95, type Spread, spread } from "./sample.ts";
import { openSpanReader } from "./span_reader.ts";
import { freshPrompt } from "./timing.ts";

/** off and control, the same again, ask with a trace that is not sampled, on with one that is. */
const sides = ["off", "on", "control"] as const;
type Side = typeof sides[number];
type PerSide<T> = Record<Side, T>;

const orders: readonly (readonly Side[])[] = [
  ["off", "on", "control"],
  ["control", "on", "off"],
  ["on", "off", "control"],
  ["control", "off", "on"],
  ["off", "control", "on"],
  ["on", "control", "off"],
];

/** A ratio, round by round, and where its median lies with 95 % confidence. */
export interface Ratio extends Spread {
  readonly interval: readonly [number, number];
}

export interface TracingCost {
  readonly tokens_per_s: PerSide<Spread>;
  /** Of the rates, on to off. */
  readonly ratio: Ratio;
  /** Control to off: what the machine makes of two equal things. */
  readonly control_ratio: Ratio;
  /** Of router and worker. */
  readonly cpu_us_per_token: PerSide<Spread>;
  /** Of that, on to off and control to off. */
  readonly cpu_ratio: Ratio;
  readonly cpu_control_ratio: Ratio;
  /** Of the same without the engine's own threads, which tracing does not touch. */
  readonly path_us_per_token: PerSide<Spread>;
  /** What tracing adds there, and what control does, as a share of all processor time without. */
  readonly added_share: Ratio;
  readonly control_added_share: Ratio;
  /** That the dashboard took. */
  readonly spans?: number;
}

export interface TracedLoad {
  /** The model to ask. */
  readonly name: string;
  /** QUETZAL_MODELS; the demo model unless set. */
  readonly models?: string;
  /** Prompts and answers enter the spans. */
  readonly captureContent: boolean;
  /**
   * Where spans go: to a dashboard beside the services, as `task up` runs it, which takes
   * its share of their cores; or to a door that only reads, as if it stood elsewhere.
   */
  readonly collector: "beside" | "elsewhere";
  readonly streams: number;
  readonly promptTokens: number;
  readonly maxTokens: number;
  /** How long requests of the side before, and their spans, are waited for. */
  readonly settleMs: number;
  /** How long tokens and processor time are counted then. */
  readonly countMs: number;
  readonly rounds: number;
  readonly warmUpMs: number;
}

/**
 * Asks the same processes with and without tracing: two meshes differ, by where their
 * memory lies and what their compilers made of them, by more than tracing costs. Clients
 * ask on and on, and every few seconds their new requests change sides, so that a machine
 * that gets slower does it to all. A dashboard's own processor time does not count.
 */
export async function measureTracing(load: TracedLoad): Promise<TracingCost> {
  await using reader = load.collector === "elsewhere"
    ? await openSpanReader()
    : undefined;
  await using mesh = await startMesh({
    prefill: 0,
    ...(load.models && { models: load.models }),
    env: {
      QUETZAL_RUNNING_MAX: "32",
      QUETZAL_LOG_LEVEL: "warn",
      QUETZAL_CAPTURE_CONTENT: `${load.captureContent}`,
      ...(reader && { OTEL_EXPORTER_OTLP_ENDPOINT: reader.url }),
    },
    ...(reader === undefined &&
      { dashboard: { QUETZAL_DASHBOARD_NICE: "10" } }),
  });
  await using clients = new Clients(mesh, load);
  await delay(load.warmUpMs);
  const measured: PerSide<Measured[]> = { off: [], on: [], control: [] };
  for (let round = 0; round < load.rounds; round++) {
    // Who follows whom changes, too: the side before leaves its last requests.
    for (const side of orders[round % orders.length]) {
      measured[side].push(await measure(mesh, clients, side, load));
    }
  }
  await clients.stop();
  const rate = ({ rate }: Measured) => rate;
  const cpuUs = ({ cpuUs }: Measured) => cpuUs;
  const pathUs = ({ pathUs }: Measured) => pathUs;
  return {
    tokens_per_s: spreads(measured, rate),
    ratio: ratio(measured.on, measured.off, rate),
    control_ratio: ratio(measured.control, measured.off, rate),
    cpu_us_per_token: spreads(measured, cpuUs),
    cpu_ratio: ratio(measured.on, measured.off, cpuUs),
    cpu_control_ratio: ratio(measured.control, measured.off, cpuUs),
    path_us_per_token: spreads(measured, pathUs),
    added_share: addedShare(measured.on, measured.off),
    control_added_share: addedShare(measured.control, measured.off),
    ...(mesh.dashboardUrl && { spans: await spansOf(mesh.dashboardUrl) }),
  };
}

async function spansOf(dashboardUrl: string): Promise<number> {
  const answer = await fetch(`${dashboardUrl}/api/store`);
  const { received }: StoreState = await answer.json();
  return received.spans;
}

interface Measured {
  /** Tokens per second. */
  readonly rate: number;
  /** Per token. */
  readonly cpuUs: number;
  readonly pathUs: number;
}

async function measure(
  mesh: Mesh,
  clients: Clients,
  side: Side,
  { settleMs, countMs }: TracedLoad,
): Promise<Measured> {
  const path = mesh.processes.filter(({ role }) => role !== "dashboard");
  const used = () => {
    let cpuS = 0, pathS = 0;
    for (const { pid } of path) {
      for (const [thread, seconds] of threadSeconds(pid)) {
        cpuS += seconds;
        if (!thread.startsWith("quetzal-")) pathS += seconds;
      }
    }
    return { cpuS, pathS };
  };
  clients.isTraced = side === "on";
  await delay(settleMs);
  const before = { tokens: clients.tokens, ...used() };
  const startMs = performance.now();
  await delay(countMs);
  const tokens = clients.tokens - before.tokens;
  const seconds = (performance.now() - startMs) / 1_000;
  const { cpuS, pathS } = used();
  return {
    rate: tokens / seconds,
    cpuUs: (cpuS - before.cpuS) / tokens * 1e6,
    pathUs: (pathS - before.pathS) / tokens * 1e6,
  };
}

/** Streams that ask again as soon as they have their answer. */
class Clients implements AsyncDisposable {
  tokens = 0;
  /** Of the requests from now on. */
  isTraced = false;
  readonly #generator: Generator;
  readonly #load: TracedLoad;
  readonly #running: Promise<unknown>;
  #isStopped = false;

  constructor(mesh: Mesh, load: TracedLoad) {
    this.#load = load;
    this.#generator = meshGenerator(
      mesh.grpcAddress,
      load.name,
      () => ({ traceparent: traceParent(this.isTraced ? "01" : "00") }),
    );
    this.#running = Promise.all(
      Array.from({ length: load.streams }, () => this.#ask()),
    );
    // A failure is thrown by stop().
    this.#running.catch(() => {});
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopped = true;
    await this.#generator[Symbol.asyncDispose]();
  }

  async #ask(): Promise<void> {
    const { promptTokens, maxTokens } = this.#load;
    while (!this.#isStopped) {
      const prompt = freshPrompt(promptTokens);
      for await (const count of this.#generator.generate(prompt, maxTokens)) {
        this.tokens += count;
      }
    }
  }
}

/** W3C Trace Context: version, trace, span, flags; 01 is sampled. */
function traceParent(flags: "00" | "01"): string {
  const trace = randomBytes(16).toString("hex");
  return `00-${trace}-${randomBytes(8).toString("hex")}-${flags}`;
}

function spreads(
  measured: PerSide<Measured[]>,
  of: (each: Measured) => number,
): PerSide<Spread> {
  const one = (side: Side) => spread(measured[side].map(of));
  return { off: one("off"), on: one("on"), control: one("control") };
}

function ratio(
  top: readonly Measured[],
  bottom: readonly Measured[],
  of: (each: Measured) => number,
): Ratio {
  const values = top.map((each, i) => of(each) / of(bottom[i]));
  return { ...spread(values), interval: interval95(values) };
}

function addedShare(
  top: readonly Measured[],
  bottom: readonly Measured[],
): Ratio {
  const values = top.map(({ pathUs }, i) =>
    (pathUs - bottom[i].pathUs) / bottom[i].cpuUs
  );
  return { ...spread(values), interval: interval95(values) };
}
