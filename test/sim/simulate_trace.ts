/** Replays one trace under one policy: the loop over arrivals, events and decisions. */
import {
  type BoundPolicy,
  policyNamed,
} from "../../services/autoscaler/policies/mod.ts";
import { createDedicatedScaler } from "./dedicated_scaler.ts";
import { Measures, type SimulationResult, type Timeline } from "./measures.ts";
import { createPooledScaler } from "./pooled_scaler.ts";
import { costOf, type Profile } from "./profile.ts";
import type { Trace } from "./trace/mod.ts";
import { type SimModel, World } from "./world.ts";

export interface SimulationOptions {
  readonly profile: Profile;
  readonly policy: string;
  /** Fields of the policy's configuration, over what the profile implies. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** The same for one model, over `config`: a schedule is a model's own. */
  readonly configOf?: (model: string) => Readonly<Record<string, unknown>>;
  /** Fields of the pool's configuration, for policies that share. */
  readonly pool?: Readonly<Record<string, number>>;
  readonly seed: string;
}

export interface Simulation {
  readonly result: SimulationResult;
  readonly timeline: Timeline;
}

/** Requests still open when the trace ends are followed this long, without costs. */
const afterMs = 600_000;

export function simulateTrace(
  trace: Trace,
  options: SimulationOptions,
): Simulation {
  const { profile } = options;
  const measures = new Measures(
    trace.durationMs,
    profile.ttftTargetMs,
    trace.models,
  );
  const world = new World(profile, trace, measures, options.seed);
  const policyOf = (model: SimModel) => boundFor(model, options);
  const scaler = options.policy === "tail"
    ? createPooledScaler(world, policyOf, options.pool ?? {})
    : createDedicatedScaler(world, policyOf);
  scaler.begin();

  const requests = trace.requests();
  let next = requests.next();
  let tickMs = 0;
  let sampled = 0;
  const { stepMs } = measures.timeline;
  const endMs = trace.durationMs + afterMs;
  while (true) {
    const arrivalMs = next.done ? Infinity : next.value.atMs;
    const eventMs = world.nextEventMs;
    const atMs = Math.min(arrivalMs, eventMs, tickMs);
    while (sampled * stepMs <= atMs && sampled * stepMs < trace.durationMs) {
      sample(world, measures, sampled++);
    }
    if (
      atMs > endMs || (next.done && atMs > trace.durationMs && isIdle(world))
    ) {
      break;
    }
    if (eventMs === atMs) world.step();
    else if (tickMs === atMs) {
      world.nowMs = tickMs;
      scaler.tick();
      tickMs += scaler.periodMs;
    } else {
      const model = world.arrive(next.value!);
      if (!model.waking && model.serving.size === 0 && model.queue.length > 0) {
        model.waking = true;
        measures.coldStarts++;
        scaler.wake(model);
      }
      next = requests.next();
    }
  }
  for (const model of world.models) world.touch(model);
  return {
    result: measures.result(options.policy),
    timeline: measures.timeline,
  };
}

/** The policy for one model, with the capacities its profile gives it. */
function boundFor(model: SimModel, options: SimulationOptions): BoundPolicy {
  const { slots } = model.class;
  const cost = costOf(options.profile, model.class);
  const { ttftTargetMs, gpusMax } = options.profile;
  const perPolicy: Record<string, Record<string, unknown>> = {
    tail: { cost, ttftTargetMs },
    "knative-kpa": { concurrencyPerReplica: slots },
    "aibrix-apa": { targetPerReplica: slots / 2 },
    "aibrix-kpa": { targetPerReplica: slots / 2 },
    hpa: { targetPerReplica: slots / 2 },
    target: {
      metric: {
        kind: "total",
        read: "concurrency",
        targetPerReplica: slots / 2,
      },
    },
  };
  return policyNamed(options.policy, {
    replicasMax: gpusMax,
    ...perPolicy[options.policy],
    ...scaledBySlots(options.config ?? {}, slots),
    ...options.configOf?.(model.name),
  });
}

/** `slotShare: 0.5` in a configuration is a target of half the model's slots. */
function scaledBySlots(
  config: Readonly<Record<string, unknown>>,
  slots: number,
): Record<string, unknown> {
  const { slotShare, ...rest } = config;
  if (typeof slotShare !== "number") return rest;
  const targetPerReplica = slotShare * slots;
  return {
    ...rest,
    targetPerReplica,
    targetUtilization: slotShare,
    metric: { kind: "total", read: "concurrency", targetPerReplica },
  };
}

function isIdle(world: World): boolean {
  return world.models.every((model) =>
    model.running === 0 && model.queue.length === 0
  );
}

function sample(world: World, measures: Measures, step: number): void {
  const { timeline } = measures;
  timeline.gpus[step] = world.workers.size;
  for (const model of world.models) {
    timeline.inFlight[step] += model.running + model.queue.length;
    timeline.models[model.id].ready[step] = model.serving.size;
  }
}
