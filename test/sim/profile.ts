/** Hardware and models a simulation runs on; `profiles/*.json` hold the ones we use. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { Code, MeshError } from "../../lib/errors/mesh_error.ts";
import type { ModelCost } from "../../services/autoscaler/forecast/latency_model.ts";
import { hashText } from "./random.ts";

const positive = z.number().positive();
const nonNegative = z.number().nonnegative();

const modelClass = z.strictObject({
  name: z.string(),
  /** Relative part of the models that are of this class. */
  weight: positive,
  weightsBytes: positive,
  prefillTokensPerS: positive,
  /** One decode step of an empty batch, and what each sequence adds. */
  stepMs: positive,
  stepMsPerSequence: nonNegative,
  /** Requests one replica runs at once. */
  slots: z.int().positive(),
});

const lengths = z.strictObject({
  /** Log-normal; natural logarithms of tokens. */
  promptLogMean: z.number(),
  promptLogDeviation: nonNegative,
  promptTokensMax: positive,
  outputLogMean: z.number(),
  outputLogDeviation: nonNegative,
  outputTokensMax: positive,
});

const profileSchema = z.strictObject({
  description: z.string(),
  gpusMax: z.int().positive(),
  gpusPerNode: z.int().positive(),
  weightsBytesPerGpu: positive,
  /** Host memory for sleeping weights that comes with each GPU held. */
  hostBytesPerGpu: nonNegative,
  /** Requests a GPU runs at once, all its models together. */
  sequencesPerGpu: z.int().positive(),
  /** Pulling the image, the first time on a node. */
  imagePullMs: nonNegative,
  /** Scheduling and starting a pod whose image is there. */
  podStartMs: nonNegative,
  /** From process start to able to load a model. */
  engineInitMs: nonNegative,
  /** Loading a model into a running engine: this and the bytes. */
  loadFixedMs: nonNegative,
  networkBytesPerS: positive,
  diskBytesPerS: positive,
  hostBytesPerS: positive,
  /** Weights lie on every node's disk from the start. */
  weightsOnDisk: z.boolean(),
  /**
   * GPUs may be cut for pods of one model: a pod counts as the share of a GPU its
   * weights take, at full speed. Kinder to such pods than real partitions are.
   */
  sliced: z.boolean().default(false),
  /** Workers may hold several models and load them while running. */
  sharing: z.boolean(),
  /** GPU time prefills get while others decode. */
  prefillShare: positive.max(1),
  /** Mean crashes of one worker a day. */
  workerFailuresPerDay: nonNegative,
  /** A request held or queued longer fails. */
  holdMsMax: positive,
  queueMax: z.int().positive(),
  ttftTargetMs: positive,
  /** Time to first token outside the worker: HTTP, tokenizing, routing, one step. */
  overheadMs: nonNegative.default(0),
  /**
   * A prompt takes its time times one of these, drawn anew for each: the spread of a real
   * machine, measured on prompts that waited for nobody.
   */
  prefillFactors: z.array(nonNegative).min(1).default([1]),
  /** A shared worker with every model loaded is there when the trace begins. */
  startLoaded: z.boolean().default(false),
  /** Engines of a worker run side by side, each model's on cores of its own. */
  sideBySide: z.boolean().default(false),
  /** Replicas each model has when the trace begins. */
  startReplicas: z.int().nonnegative(),
  lengths,
  models: z.array(modelClass).min(1),
});

export type Profile = z.infer<typeof profileSchema>;
export type ModelClass = z.infer<typeof modelClass>;

export function readProfile(path: string): Profile {
  const parsed = profileSchema.safeParse(
    JSON.parse(readFileSync(path, "utf8")),
  );
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) =>
    `${issue.path.join(".")}: ${issue.message}`
  );
  throw new MeshError(
    Code.invalidArgument,
    `Cannot use profile "${path}": ${faults.join("; ")}`,
  );
}

/**
 * The class of a model: by its exact name when there is one, else by a hash of
 * its name, in proportion to the weights, so that it does not depend on traffic.
 */
export function classOf(profile: Profile, model: string): ModelClass {
  const named = profile.models.find(({ name }) => name === model);
  if (named) return named;
  const total = profile.models.reduce((sum, { weight }) => sum + weight, 0);
  let left = (hashText(`class/${model}`) / 4294967296) * total;
  for (const candidate of profile.models) {
    left -= candidate.weight;
    if (left < 0) return candidate;
  }
  return profile.models[profile.models.length - 1];
}

/** Milliseconds until weights are on the GPU of a running engine. */
export function loadMs(
  profile: Profile,
  weightsBytes: number,
  source: "host" | "disk" | "network",
): number {
  const bytesPerS = {
    host: profile.hostBytesPerS,
    disk: profile.diskBytesPerS,
    network: profile.networkBytesPerS,
  }[source];
  return profile.loadFixedMs + (weightsBytes / bytesPerS) * 1000;
}

/** What a policy is told about a model: measured rates and times. */
export function costOf(profile: Profile, model: ModelClass): ModelCost {
  const { lengths } = profile;
  const source = profile.weightsOnDisk ? "disk" : "network";
  const mean = (logMean: number, deviation: number) =>
    Math.exp(logMean + deviation ** 2 / 2);
  return {
    weightsBytes: model.weightsBytes,
    promptTokensMean: mean(lengths.promptLogMean, lengths.promptLogDeviation),
    outputTokensMean: mean(lengths.outputLogMean, lengths.outputLogDeviation),
    prefillTokensPerS: model.prefillTokensPerS,
    stepMs: model.stepMs,
    stepMsPerSequence: model.stepMsPerSequence,
    slots: model.slots,
    startMs: profile.podStartMs + profile.engineInitMs +
      loadMs(profile, model.weightsBytes, source),
    wakeMs: profile.sharing
      ? {
        host: loadMs(profile, model.weightsBytes, "host"),
        disk: loadMs(profile, model.weightsBytes, "disk"),
        network: loadMs(profile, model.weightsBytes, "network"),
      }
      : undefined,
  };
}
